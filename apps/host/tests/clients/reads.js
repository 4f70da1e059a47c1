// Reads of a contract that asks a cryptlet (ERC-3668), by viem and ethers as npm has them. Prints what each of them got.
import { Contract, JsonRpcProvider } from 'ethers';
import { createPublicClient, http } from 'viem';
import { foundry } from 'viem/chains';

const { RPC_URL: url, CONTRACT: address, CURRENCY: currency } = process.env;
const abi = [{
  type: 'function', name: 'price', stateMutability: 'view',
  inputs: [{ name: 'currency', type: 'string' }], outputs: [{ name: '', type: 'uint256' }],
}];

const outcome = async (read) => {
  try {
    return { value: (await read()).toString() };
  } catch (error) {
    return { error: error.shortMessage ?? error.message };
  }
};

const client = createPublicClient({ chain: foundry, transport: http(url) });
const provider = new JsonRpcProvider(url, undefined, { staticNetwork: true });
const contract = new Contract(address, abi, provider);

console.log(JSON.stringify({
  viem: await outcome(() => client.readContract({ address, abi, functionName: 'price', args: [currency] })),
  ethers: await outcome(() => contract.price(currency, { enableCcipRead: true })),
}));
provider.destroy();
