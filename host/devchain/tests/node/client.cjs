// TON's own client library against the local chain: a wallet of its making is given coins, deploys
// itself, pays, and is read back. Reads {"base": URL, "network": number} and prints what it saw.
const { TonClient, WalletContractV5R1, internal, SendMode } = require('@ton/ton');
const { keyPairFromSeed } = require('@ton/crypto');
const { Address, comment } = require('@ton/core');

async function main(input) {
    const client = new TonClient({ endpoint: `${input.base}/api/v2/jsonRPC` });
    const keys = keyPairFromSeed(Buffer.alloc(32, 0x51));
    const wallet = WalletContractV5R1.create({
        publicKey: keys.publicKey,
        walletId: { networkGlobalId: input.network },
    });
    const payee = new Address(0, Buffer.alloc(32, 0x77));
    const faucet = await fetch(`${input.base}/faucet`, {
        method: 'POST',
        body: JSON.stringify({ address: wallet.address.toString(), amount: 5_000_000_000 }),
    });
    const before = await client.getContractState(wallet.address);
    const opened = client.open(wallet);
    const order = (seqno, message) => ({
        seqno,
        secretKey: keys.secretKey,
        sendMode: SendMode.PAY_GAS_SEPARATELY | SendMode.IGNORE_ERRORS,
        messages: [internal({ to: payee, value: 1_000_000_000n, bounce: false, body: comment(message) })],
    });
    const body = wallet.createTransfer(order(0, 'estimate'));
    const { source_fees: fees } = await client.estimateExternalMessageFee(wallet.address, {
        body, initCode: wallet.init.code, initData: wallet.init.data, ignoreSignature: true,
    });
    await opened.sendTransfer(order(await opened.getSeqno(), 'first'));
    await opened.sendTransfer(order(await opened.getSeqno(), 'second'));
    let replayed;
    try {
        await opened.sendTransfer(order(0, 'again'));
    } catch (error) {
        replayed = { status: error.response.status, ...error.response.data };
    }
    const newest = await client.getTransactions(wallet.address, { limit: 1 });
    const rest = await client.getTransactions(wallet.address, {
        limit: 10, lt: newest[0].lt.toString(), hash: newest[0].hash().toString('base64'),
    });
    const key = await client.runMethod(wallet.address, 'get_public_key');
    const nothing = await client.runMethodWithError(payee, 'seqno');
    const info = await client.getMasterchainInfo();
    return {
        faucet: faucet.status,
        notice: faucet.headers.get('x-chrysalis-devchain'),
        before: before.state,
        after: (await client.getContractState(wallet.address)).state,
        deployed: await client.isContractDeployed(wallet.address),
        seqno: await opened.getSeqno(),
        key: key.stack.readBigNumber().toString(16).padStart(64, '0') === keys.publicKey.toString('hex'),
        paid: (await client.getBalance(payee)).toString(),
        balance: (await client.getBalance(wallet.address)).toString(),
        estimated: fees.gas_fee + fees.in_fwd_fee + fees.fwd_fee + fees.storage_fee,
        transactions: [...newest, ...rest].map((t) => ({
            lt: t.lt.toString(),
            prev: t.prevTransactionLt.toString(),
            from: t.inMessage.info.type,
            sent: t.outMessagesCount,
            comment: t.outMessagesCount
                ? t.outMessages.get(0).body.beginParse().skip(32).loadStringTail() : null,
        })),
        replayed,
        nothing: nothing.exit_code,
        seqnoOfChain: info.latestSeqno,
    };
}

let text = '';
process.stdin.on('data', (part) => (text += part));
process.stdin.on('end', () => main(JSON.parse(text)).then(
    (seen) => process.stdout.write(JSON.stringify(seen)),
    (error) => { console.error(error); process.exitCode = 1; },
));
