import assert from 'node:assert/strict';
import {
  BaseError, ContractFunctionRevertedError, createPublicClient, createTestClient, createWalletClient, http,
  parseEther, webSocket,
} from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { foundry } from 'viem/chains';
import { privateKey, probe, url, within, wsUrl } from './target.js';

const { abi, bytecode } = probe;
const account = privateKeyToAccount(privateKey);
const chain = foundry;
const pushed = createPublicClient({ chain, transport: webSocket(wsUrl) });
const client = createPublicClient({ chain, transport: http(url), pollingInterval: 50 });
const wallet = createWalletClient({ account, chain, transport: http(url) });
const test = createTestClient({ chain, mode: 'anvil', transport: http(url) });

assert.equal(await client.getChainId(), 31337);
const created = await client.waitForTransactionReceipt({ hash: await wallet.deployContract({ abi, bytecode }) });
const address = created.contractAddress;
assert.ok((await client.getCode({ address })).length > 2);

const head = within(new Promise((resolve, reject) => {
  pushed.watchBlocks({ onBlock: resolve, onError: reject });
}), 'a block');
const event = within(new Promise((resolve, reject) => {
  pushed.watchContractEvent({
    address, abi, eventName: 'ValueSet', args: { by: account.address },
    onLogs: ([log]) => resolve(log), onError: reject,
  });
}), 'an event');
// A request on the same connection is answered after the subscriptions are in place.
await pushed.getBlockNumber();

const { request } = await client.simulateContract({ account, address, abi, functionName: 'set', args: [42n] });
const receipt = await client.waitForTransactionReceipt({ hash: await wallet.writeContract(request) });
assert.equal(receipt.status, 'success');
assert.equal(await client.readContract({ address, abi, functionName: 'value' }), 42n);
assert.equal((await event).args.value, 42n);
assert.equal((await event).transactionHash, receipt.transactionHash);
assert.equal((await head).number, receipt.blockNumber);

const logs = await client.getContractEvents({ address, abi, eventName: 'ValueSet', fromBlock: 0n });
assert.equal(logs.length, 1);
const filter = await client.createContractEventFilter({ address, abi, eventName: 'ValueSet' });
await wallet.writeContract({ address, abi, functionName: 'emitMany', args: [3n] });
assert.equal((await client.getFilterChanges({ filter })).length, 3);

const failure = await client.simulateContract({ address, abi, functionName: 'refuseCustom' }).catch((error) => error);
assert.ok(failure instanceof BaseError);
const reverted = failure.walk((error) => error instanceof ContractFunctionRevertedError);
assert.deepEqual([reverted.data.errorName, reverted.data.args], ['Refused', [42n]]);

const nonceFailure = await wallet.sendTransaction({ to: account.address, nonce: 0, gas: 21000n }).catch((error) => error);
assert.ok(nonceFailure.walk((error) => error.name === 'NonceTooLowError'), String(nonceFailure));

const snapshot = await test.snapshot();
await test.setBalance({ address: '0x00000000000000000000000000000000000000aa', value: parseEther('3') });
await test.increaseTime({ seconds: 3600 });
await test.mine({ blocks: 2 });
assert.equal(await client.getBalance({ address: '0x00000000000000000000000000000000000000aa' }), parseEther('3'));
const later = await client.getBlock();
await test.revert({ id: snapshot });
assert.ok((await client.getBlock()).number < later.number);
const proof = await client.getProof({ address, storageKeys: [`0x${'0'.repeat(64)}`] });
assert.equal(proof.storageProof[0].value, 42n);
const fees = await client.estimateFeesPerGas();
assert.ok(fees.maxFeePerGas > fees.maxPriorityFeePerGas);
console.log('viem: ok');
process.exit(0);
