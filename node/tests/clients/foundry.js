// cast and forge, from the packages with their binaries: the launchers of @foundry-rs end with 0 even on failure.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { privateKey, probe, url } from './target.js';

const folder = new URL('.', import.meta.url).pathname;
const arch = { x64: 'amd64' }[process.arch] ?? process.arch;
const binary = (tool) =>
  createRequire(import.meta.url).resolve(`@foundry-rs/${tool}-${process.platform}-${arch}/bin/${tool}`);

function run(tool, args, env = {}) {
  const { status, stdout, stderr, error } = spawnSync(binary(tool), args, {
    cwd: folder, encoding: 'utf8', env: { ...process.env, ETH_RPC_URL: url, FOUNDRY_DISABLE_NIGHTLY_WARNING: '1', ...env },
  });
  if (error) throw error;
  if (status !== 0) throw Object.assign(new Error(`${tool} ${args[0]} ended with ${status}:\n${stderr}${stdout}`), { stderr });
  return stdout.trim();
}

const cast = (...args) => run('cast', args);
const send = (...args) => JSON.parse(cast('send', '--json', '--private-key', privateKey, ...args));

assert.equal(cast('chain-id'), '31337');
const address = send('--create', probe.bytecode).contractAddress;
const receipt = send(address, 'set(uint256)', '77');
assert.equal(receipt.status, '0x1');
assert.equal(cast('call', address, 'value()(uint256)'), '77');
const logs = JSON.parse(cast('logs', '--json', '--from-block', '0', '--address', address, 'ValueSet(address,uint256,string)'));
assert.deepEqual(logs.map((log) => log.transactionHash), [receipt.transactionHash]);
assert.equal(JSON.parse(cast('block', '--json', receipt.blockNumber)).hash, receipt.blockHash);
assert.equal(JSON.parse(cast('receipt', '--json', receipt.transactionHash)).transactionIndex, '0x0');
assert.equal(BigInt(cast('storage', address, '0')), 77n);
assert.equal(BigInt(JSON.parse(cast('proof', '--json', address, '0')).storageProof[0].value), 77n);
assert.ok(Number(cast('estimate', address, 'set(uint256)', '78')) > 21000);
assert.match(cast('access-list', address, 'value()'), /0x0{64}/i);
assert.match(JSON.parse(cast('rpc', 'web3_clientVersion')), /^cryptlet-node\//);
assert.throws(() => cast('call', address, 'refuse()'), /not today/);
assert.throws(() => send('--nonce', '0', '--gas-limit', '30000', address), /nonce too low/);
const legacy = send('--legacy', address, 'set(uint256)', '79');
assert.equal(legacy.type, '0x0');
assert.equal(cast('run', '--quick', legacy.transactionHash).includes('Transaction successfully executed'), true);
console.log('cast: ok');

const created = run('forge', ['create', '--json', '--broadcast', '--private-key', privateKey, '../fixtures/Probe.sol:Probe']);
const deployed = JSON.parse(created.slice(created.indexOf('{'))).deployedTo;
assert.equal(cast('call', deployed, 'value()(uint256)'), '0');
const env = { PROBE: address, EXPECTED: '79' };
run('forge', ['test', '--fork-url', url], env);
assert.throws(() => run('forge', ['test', '--fork-url', url], { ...env, EXPECTED: '80' }), /unexpected value/);
run('forge', ['script', '--broadcast', '--private-key', privateKey, '--fork-url', url, 'forge/Set.s.sol'], env);
assert.equal(cast('call', address, 'value()(uint256)'), '80');
console.log('forge: ok');
