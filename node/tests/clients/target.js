// The node under test, as tests/clients.rs names it, and the contract that the clients use.
import { readFileSync } from 'node:fs';

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run this through tests/clients.rs`);
  return value;
}

export const url = required('RPC_URL');
export const wsUrl = required('WS_URL');
export const privateKey = required('PRIVATE_KEY');
export const probe = JSON.parse(readFileSync(new URL('../fixtures/Probe.json', import.meta.url), 'utf8'));

/** Fails, rather than waits for ever, when an event does not come. */
export function within(promise, what) {
  let timer;
  const expired = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within 10 s`)), 10_000);
  });
  return Promise.race([promise, expired]).finally(() => clearTimeout(timer));
}
