// Compiles vectors/header/GoldPrice.sol beside our contracts, with a contract that inherits it, and compares the ABI of its
// interface with the one in gold-price.json. Ends with 1 and says why if anything differs.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');
const contracts = join(root, 'contracts');
const solc = createRequire(join(contracts, 'package.json'))('solc');
const vector = (name) => readFileSync(join(root, 'vectors/header', name), 'utf8');

const consumer = `// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;
import {GoldPrice, GoldPriceHeader} from "./GoldPrice.sol";
import {CryptoDelegate} from "./bletchley/CryptoDelegate.sol";
contract Consumer is GoldPrice {
    uint256 public latest;
    constructor(CryptoDelegate delegate_) GoldPrice(delegate_) {}
    function priceOf(uint64, uint256 price) external onlyBy(GoldPriceHeader.CRYPTLET) { latest = price; }
    function quotesOf(uint64 day, Quote[] calldata quotes) external onlyBy(GoldPriceHeader.CRYPTLET) {
        emit Quoted(day, quotes[0]);
    }
}`;

// `cryptlet import` puts our contracts into `bletchley/` beside the header.
function readImport(path) {
  const file = path.startsWith('@openzeppelin/')
    ? join(contracts, 'node_modules', path)
    : join(contracts, path.replace('project/bletchley/', 'src/'));
  try {
    return { contents: readFileSync(file, 'utf8') };
  } catch (error) {
    return { error: error.message };
  }
}

const input = {
  language: 'Solidity',
  sources: {
    'project/GoldPrice.sol': { content: vector('GoldPrice.sol') },
    'project/Consumer.sol': { content: consumer },
  },
  settings: { evmVersion: 'osaka', outputSelection: { '*': { '*': ['abi'] } } },
};
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: readImport }));
const errors = (output.errors ?? []).filter(({ severity }) => severity === 'error');
if (errors.length > 0) throw new Error(errors.map(({ formattedMessage }) => formattedMessage).join('\n'));

/** The same value with the keys of every object in order. */
function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}
const lines = (abi) => abi.map((item) => JSON.stringify(sorted(item))).sort().join('\n');
const theirs = lines(output.contracts['project/GoldPrice.sol'].IGoldPrice.abi);
const ours = lines(JSON.parse(vector('gold-price.json')).abi);
if (theirs !== ours) throw new Error(`solc says\n${theirs}\nthe header says\n${ours}`);
