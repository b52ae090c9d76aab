// Compiles a contract of this folder with the pinned compiler and prints its code: a bag of cells in
// base64, and its hash. NODE_PATH says where the packages of package-lock.json are.
//
//   node compile.cjs channel.tolk
'use strict';
const fs = require('node:fs');
const path = require('node:path');
const { getTolkCompilerVersion, runTolkCompiler } = require('@ton/tolk-js');

const COMPILER = '1.3.0';

async function main(contract) {
    const version = await getTolkCompilerVersion();
    if (version !== COMPILER) throw new Error(`compiler ${version}; the code is pinned to ${COMPILER}`);
    const compiled = await runTolkCompiler({
        entrypointFileName: contract,
        fsReadCallback: (name) => fs.readFileSync(path.join(__dirname, name), 'utf8'),
    });
    if (compiled.status !== 'ok') throw new Error(compiled.message);
    console.log(JSON.stringify({ code: compiled.codeBoc64, hash: compiled.codeHashHex.toLowerCase() }));
}

main(process.argv[2]).catch((error) => {
    console.error(error.message);
    process.exit(1);
});
