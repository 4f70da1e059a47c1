// Fetches the npm package `@chainlink/contracts` for the benchmark into cache/, which git ignores. Its installation fails on
// a dependency from git, which the contract measured does not need, so the tarball is taken alone and compared with its hash.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const version = '1.4.0';
const integrity =
  'sha512-SpNCJ0TPOI6pa2l702Wk4WIP8ccw5ARcRP1E/ZTqaFffXNoZeF03WhsVL8f3l3OTRFA9Z40O5KcZzmJmZQkoFA==';

const folder = join(dirname(dirname(fileURLToPath(import.meta.url))), 'cache', 'chainlink');
const complete = join(folder, `${version}.complete`);

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  if (error) throw error;
  if (status !== 0) throw new Error(`${command} ended with ${status}`);
}

if (!existsSync(complete)) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  run('npm', ['pack', '--silent', `@chainlink/contracts@${version}`]);
  const tarball = join(folder, `chainlink-contracts-${version}.tgz`);
  const given = `sha512-${createHash('sha512').update(readFileSync(tarball)).digest('base64')}`;
  if (given !== integrity) throw new Error(`${tarball} is not what it was: ${given}`);
  run('tar', ['xzf', tarball]);
  writeFileSync(complete, '');
}
