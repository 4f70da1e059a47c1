// Compiles the contracts with the pinned npm `solc` and writes their ABI and bytecode to artifacts/, or, with --check,
// compares artifacts/ with what the sources give and exits with 1 naming each file that differs.
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import solc from 'solc';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const artifacts = join(root, 'artifacts');

// What is published, by its source: test consumers go to a folder of their own.
const published = {
  'src/CryptoDelegate.sol': 'CryptoDelegate.json',
  'src/CryptletRegister.sol': 'CryptletRegister.json',
  'src/CryptletRegisterMirror.sol': 'CryptletRegisterMirror.json',
  'src/ICryptletRegister.sol': 'ICryptletRegister.json',
  'src/CryptletProxy.sol': 'CryptletProxy.json',
  'src/MessageQueue.sol': 'MessageQueue.json',
  'src/CryptletCaller.sol': 'CryptletCaller.json',
  'examples/PriceConsumer.sol': 'PriceConsumer.json',
  'examples/SpotPrice.sol': 'SpotPrice.json',
  'test/consumers/BenchConsumer.sol': 'test/BenchConsumer.json',
  'test/consumers/StoreWord.sol': 'test/StoreWord.json',
  'test/consumers/IdentityConsumer.sol': 'test/IdentityConsumer.json',
  'test/consumers/RevertingConsumer.sol': 'test/RevertingConsumer.json',
  'test/consumers/GasEater.sol': 'test/GasEater.json',
  'test/consumers/ReturnBomb.sol': 'test/ReturnBomb.json',
  'test/support/Wallet.sol': 'test/Wallet.json',
};

// 2394 reminds every user of transient storage to clear it; OpenZeppelin's reentrancy guard does.
const acceptedWarnings = ['2394'];

/** One setting of foundry.toml's default profile, which forge compiles the same sources with. */
function setting(name) {
  const line = readFileSync(join(root, 'foundry.toml'), 'utf8').match(new RegExp(`^${name} = (.+)$`, 'm'));
  if (!line) throw new Error(`foundry.toml: ${name} is missing`);
  return JSON.parse(/^[\d_]+$/.test(line[1]) ? line[1].replaceAll('_', '') : line[1]);
}

const settings = {
  evmVersion: setting('evm_version'),
  optimizer: { enabled: setting('optimizer'), runs: setting('optimizer_runs') },
  viaIR: setting('via_ir'),
  metadata: { bytecodeHash: setting('bytecode_hash'), appendCBOR: setting('cbor_metadata') },
  remappings: setting('remappings'),
};

/** What solc says of these sources, with these outputs; `imported` is asked for sources that are missing. */
function run(sources, outputs, imported) {
  const input = { language: 'Solidity', sources, settings: { ...settings, outputSelection: { '*': { '*': outputs } } } };
  return JSON.parse(solc.compile(JSON.stringify(input), { import: imported }));
}

/**
 * What is published and all that it imports, by the names that forge gives them. solc numbers declarations in the order of
 * these names, and sources that it has to ask for last; which code it shares, hangs on the numbers.
 */
function readSources() {
  const read = (file) => readFileSync(join(root, file), 'utf8');
  const sources = Object.fromEntries(Object.keys(published).map((file) => [file, { content: read(file) }]));
  run({ ...sources }, [], (file) => {
    try {
      sources[file] = { content: read(file) };
      return { contents: sources[file].content };
    } catch (error) {
      return { error: error.message };
    }
  });
  return sources;
}

function compile() {
  const outputs = ['abi', 'evm.bytecode.object', 'evm.deployedBytecode.object'];
  const missing = (file) => ({ error: `${file} is not to be found` });
  const output = run(readSources(), outputs, missing);
  const messages = (output.errors ?? [])
    .filter((entry) => !acceptedWarnings.includes(entry.errorCode))
    .map((entry) => entry.formattedMessage);
  if (messages.length > 0) throw new Error(messages.join('\n'));
  return output.contracts;
}

/** The same value with the keys of every object in order. */
function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}

function render(contract) {
  const artifact = {
    abi: contract.abi,
    bytecode: `0x${contract.evm.bytecode.object}`,
    deployedBytecode: `0x${contract.evm.deployedBytecode.object}`,
  };
  return `${JSON.stringify(sorted(artifact), null, 2)}\n`;
}

function expectedFiles() {
  const contracts = compile();
  return new Map(
    Object.entries(published).map(([source, file]) => {
      const name = basename(file, '.json');
      return [file, render(contracts[source][name])];
    }),
  );
}

function presentFiles() {
  return readdirSync(artifacts, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.json'))
    .map((entry) => relative(artifacts, join(entry.parentPath ?? entry.path, entry.name)));
}

function check(expected) {
  const differing = [...expected].filter(([file, text]) => {
    try {
      return readFileSync(join(artifacts, file), 'utf8') !== text;
    } catch {
      return true;
    }
  });
  const stray = presentFiles().filter((file) => !expected.has(file));
  for (const [file] of differing) console.error(`artifacts/${file} differs from its sources: run \`npm run build\``);
  for (const file of stray) console.error(`artifacts/${file} has no source: run \`npm run build\``);
  return differing.length + stray.length === 0;
}

function write(expected) {
  mkdirSync(artifacts, { recursive: true });
  for (const file of presentFiles()) rmSync(join(artifacts, file));
  for (const [file, text] of expected) {
    mkdirSync(dirname(join(artifacts, file)), { recursive: true });
    writeFileSync(join(artifacts, file), text);
  }
}

const args = process.argv.slice(2);
if (args.some((arg) => arg !== '--check')) {
  console.error('usage: node scripts/build.mjs [--check]');
  process.exit(2);
}
const expected = expectedFiles();
if (!args.includes('--check')) write(expected);
else if (!check(expected)) process.exit(1);
