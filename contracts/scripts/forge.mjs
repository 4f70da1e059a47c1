// Runs the pinned npm `forge` with the given arguments and ends as it ends. The packages with forge's binaries are used
// directly: the launcher in `@foundry-rs/forge` ends with 0 even if a test failed.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function binary() {
  const arch = { x64: 'amd64' }[process.arch] ?? process.arch;
  const name = `@foundry-rs/forge-${process.platform}-${arch}`;
  const file = process.platform === 'win32' ? 'forge.exe' : 'forge';
  try {
    return createRequire(import.meta.url).resolve(`${name}/bin/${file}`);
  } catch {
    console.error(`${name} is not installed: run \`npm ci\`, or add it to package.json if this platform is new`);
    process.exit(1);
  }
}

const { status, error } = spawnSync(binary(), process.argv.slice(2), { cwd: root, stdio: 'inherit' });
if (error) throw error;
process.exit(status ?? 1);
