import assert from 'node:assert/strict';
import { Contract, ContractFactory, JsonRpcProvider, NonceManager, Wallet, WebSocketProvider, parseEther } from 'ethers';
import { privateKey, probe, url, within, wsUrl } from './target.js';

const { abi, bytecode } = probe;
const provider = new JsonRpcProvider(url, undefined, { pollingInterval: 50 });
const pushed = new WebSocketProvider(wsUrl);
const wallet = new NonceManager(new Wallet(privateKey, provider));

assert.equal((await provider.getNetwork()).chainId, 31337n);
const contract = await new ContractFactory(abi, bytecode, wallet).deploy();
await contract.waitForDeployment();
const address = await contract.getAddress();

const watched = new Contract(address, abi, pushed);
const event = new Promise((resolve) => watched.on('ValueSet', (by, value, note) => resolve({ value, note })));
await watched.queryFilter('ValueSet');
const head = new Promise((resolve) => pushed.on('block', resolve));
await pushed.getBlockNumber();

const receipt = await (await contract.set(5n)).wait();
assert.equal(receipt.status, 1);
assert.equal(await contract.value(), 5n);
assert.deepEqual(await within(event, 'an event'), { value: 5n, note: 'set' });
assert.ok(await within(head, 'a block') >= receipt.blockNumber);
assert.equal((await contract.queryFilter('ValueSet', 0)).length, 1);
assert.equal(await contract.value({ blockTag: receipt.blockNumber - 1 }), 0n);

await assert.rejects(contract.refuse.staticCall(), (error) => error.reason === 'not today');
await assert.rejects(contract.refuseCustom.staticCall(), (error) => error.revert?.name === 'Refused');
const data = contract.interface.encodeFunctionData('refuse');
const failed = await wallet.sendTransaction({ to: address, data, gasLimit: 100_000n });
await assert.rejects(failed.wait(), (error) => error.code === 'CALL_EXCEPTION' && error.receipt.status === 0);

const poor = Wallet.createRandom(provider);
await assert.rejects(
  poor.sendTransaction({ to: address, value: parseEther('1') }),
  (error) => error.code === 'INSUFFICIENT_FUNDS',
);
const sent = await wallet.sendTransaction({ to: poor.address, value: parseEther('1') });
await sent.wait();
assert.equal(await provider.getBalance(poor.address), parseEther('1'));
const block = await provider.getBlock('latest', true);
assert.equal(block.prefetchedTransactions[0].hash, sent.hash);
console.log('ethers: ok');
process.exit(0);
