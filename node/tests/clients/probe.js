// Compiles ../fixtures/Probe.sol. With --write it writes Probe.json beside it, else it checks that the two agree.
import { readFileSync, writeFileSync } from 'node:fs';
import solc from 'solc';

const source = new URL('../fixtures/Probe.sol', import.meta.url);
const artifact = new URL('../fixtures/Probe.json', import.meta.url);
const settings = {
  optimizer: { enabled: true, runs: 200 },
  metadata: { bytecodeHash: 'none', appendCBOR: false },
  evmVersion: 'osaka',
  outputSelection: { '*': { '*': ['abi', 'evm.bytecode.object'] } },
};
const sources = { 'Probe.sol': { content: readFileSync(source, 'utf8') } };
const output = JSON.parse(solc.compile(JSON.stringify({ language: 'Solidity', sources, settings })));
if (output.errors?.length) throw new Error(output.errors.map((e) => e.formattedMessage).join('\n'));
const { abi, evm } = output.contracts['Probe.sol'].Probe;
const compiled = `${JSON.stringify({ abi, bytecode: `0x${evm.bytecode.object}` })}\n`;
if (process.argv.includes('--write')) writeFileSync(artifact, compiled);
else if (readFileSync(artifact, 'utf8') !== compiled) throw new Error('Probe.json is not what Probe.sol compiles to');
