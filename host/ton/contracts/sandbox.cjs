// Runs messages in @ton/sandbox, TON's own virtual machine and executor compiled to WebAssembly, and
// prints what each did: the second opinion on what tycho-executor says of the same messages.
// Standard input: {"prices": {...}, "steps": [...]}; standard output: a list of results.
'use strict';
const { Address, Cell, Dictionary, beginCell, loadMessage, loadStateInit } = require('@ton/core');
const { Blockchain, defaultConfig, internal } = require('@ton/sandbox');

const cell = (hex) => Cell.fromBoc(Buffer.from(hex, 'hex'))[0];
const account = (hex) => new Address(0, Buffer.from(hex, 'hex'));

// The default configuration with the prices given: parameters 18, 21 and 25.
function config(p) {
    const params = Dictionary.loadDirect(Dictionary.Keys.Int(32), Dictionary.Values.Cell(), Cell.fromBase64(defaultConfig));
    const rent = beginCell().storeUint(0xcc, 8).storeUint(0, 32).storeUint(0, 64).storeUint(p.storageCell, 64).storeUint(1000, 64).storeUint(500000, 64);
    const rents = Dictionary.empty(Dictionary.Keys.Uint(32), { serialize: (src, b) => b.storeSlice(src.beginParse()), parse: (s) => s.asCell() });
    rents.set(0, rent.endCell());
    params.set(18, beginCell().storeDictDirect(rents).endCell());
    params.set(21, beginCell().storeUint(0xd1, 8).storeUint(p.flatGasLimit, 64).storeUint(p.flatGasPrice, 64)
        .storeUint(0xde, 8).storeUint(p.gas, 64).storeUint(1_000_000, 64).storeUint(1_000_000, 64).storeUint(p.gasCredit, 64)
        .storeUint(10_000_000, 64).storeUint(100_000_000, 64).storeUint(1_000_000_000, 64).endCell());
    params.set(25, beginCell().storeUint(0xea, 8).storeUint(p.messageLump, 64).storeUint(p.messageBit, 64).storeUint(p.messageCell, 64)
        .storeUint(98304, 32).storeUint(21845, 16).storeUint(21845, 16).endCell());
    return beginCell().storeDictDirect(params).endCell();
}

function summary(tx) {
    const { computePhase, actionPhase, aborted } = tx.description;
    const sent = [...tx.outMessages.values()].filter((m) => m.info.type === 'internal');
    const travelling = sent.reduce((sum, m) => sum + m.info.forwardFee, 0n);
    return {
        exit: computePhase.type === 'vm' ? computePhase.exitCode : null,
        action: actionPhase ? actionPhase.resultCode : null,
        gas: computePhase.type === 'vm' ? Number(computePhase.gasUsed) : 0,
        cost: (tx.totalFees.coins + travelling).toString(),
        aborted,
        sent: sent.map((m) => [m.info.dest.hash.toString('hex'), m.info.value.coins.toString(), m.info.bounced]),
    };
}

async function run({ prices, steps }) {
    const chain = await Blockchain.create({ config: config(prices) });
    const results = [];
    for (const step of steps) {
        chain.now = step.now;
        const message = step.external ? loadMessage(cell(step.external).beginParse()) : internal({
            from: account(step.from),
            to: account(step.to),
            value: BigInt(step.value),
            bounce: step.bounce,
            stateInit: step.init ? loadStateInit(cell(step.init).beginParse()) : undefined,
            body: step.body ? cell(step.body) : undefined,
        });
        try {
            const { transactions } = await chain.sendMessage(message);
            results.push(summary(transactions[0]));
        } catch (error) {
            if (error.exitCode === undefined) throw error;
            results.push({ refused: error.exitCode });
        }
    }
    return results;
}

let input = '';
process.stdin.on('data', (data) => { input += data; });
process.stdin.on('end', () => run(JSON.parse(input)).then(
    (results) => console.log(JSON.stringify(results)),
    (error) => { console.error(error.stack); process.exit(1); },
));
