#!/usr/bin/env bash
# Installs what a build or a test run needs and a fresh machine may lack. Safe to run again; quick when nothing is missing.
#
#   scripts/setup.sh rust cc          what `make demo` needs
#   scripts/setup.sh rust cc wasm node services python tpm guest   what `make test` needs
#
# rust  the compiler that rust-toolchain.toml pins, by rustup
# cc    a C compiler and linker, by apt
# wasm  the target that cryptlets are built for, by rustup
# node  Node.js 18 or newer and npm, by apt
# anvil the pinned Anvil, by npm; needs node
# services  a PKCS#11 token in software (softhsm2) and an OCI registry (docker-registry), by apt
# tpm       a TPM in software (swtpm) and the TPM2 Software Stack with its headers (libtss2-dev), by apt
# guest     what boots images in tests: QEMU, by apt; Debian's cloud kernel with its modules, by apt, unpacked into a folder
#           outside the clone and never booted by anything but QEMU; the pinned vhost-device-vsock, by cargo; needs rust
# microvm   what `make microvm` needs: clang, QEMU, a static busybox, by apt; rust-src and the target x86_64-unknown-none, by
#           rustup; the same kernel
# python    Python 3 with venv, by apt, and the API fuzzer schemathesis, by pip into a folder of its own
set -euo pipefail
cd "$(dirname "$0")/.."

readonly NODE_AT_LEAST=18
readonly SCHEMATHESIS=4.32.5
readonly VSOCK=0.3.0
packages=()

say() { printf '==> setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

pinned() { sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml; }

need_rust() {
  command -v rustup >/dev/null || fail "rustup is not installed; see https://rustup.rs, then run this again"
  local channel installed
  channel=$(pinned)
  installed=$(rustup toolchain list)
  if ! grep -q "^$channel-" <<<"$installed"; then
    say "install Rust $channel (rustup)"
    rustup toolchain install "$channel" --profile minimal --component rustfmt --component clippy --no-self-update
  fi
}

need_wasm() {
  local channel installed
  channel=$(pinned)
  installed=$(rustup target list --installed --toolchain "$channel")
  if ! grep -q '^wasm32-unknown-unknown$' <<<"$installed"; then
    say "add the target wasm32-unknown-unknown (rustup)"
    rustup target add wasm32-unknown-unknown --toolchain "$channel"
  fi
}

# A compiler without the C library's headers is as good as none.
links_c() { printf '#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n' | cc -x c -o /dev/null - 2>/dev/null; }

need_cc() { links_c || packages+=(build-essential pkg-config); }

need_node() {
  if ! command -v node >/dev/null; then
    packages+=(nodejs npm)
  elif ! command -v npm >/dev/null; then
    packages+=(npm)
  fi
}

# Installed by npm, once node is there.
need_anvil() { :; }

need_services() {
  [ -e /usr/lib/softhsm/libsofthsm2.so ] || packages+=(softhsm2)
  command -v docker-registry >/dev/null || packages+=(docker-registry)
}

need_python() {
  python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3 python3-venv)
}

need_tpm() {
  command -v swtpm >/dev/null || packages+=(swtpm)
  command -v pkg-config >/dev/null || packages+=(pkg-config)
  pkg-config --exists tss2-esys tss2-tctildr tss2-mu 2>/dev/null || packages+=(libtss2-dev)
}

need_guest() { command -v qemu-system-x86_64 >/dev/null || packages+=(qemu-system-x86); }

need_microvm() {
  local program
  # Each stands for its package, but for the last, whose ordinary package is not static.
  for program in clang:clang qemu-system-x86_64:qemu-system-x86 cpio:cpio xz:xz-utils; do
    command -v "${program%%:*}" >/dev/null || packages+=("${program#*:}")
  done
  if ! command -v busybox >/dev/null || ldd "$(command -v busybox)" >/dev/null 2>&1; then packages+=(busybox-static); fi
}

check_microvm() {
  local channel
  channel=$(pinned)
  if [ ! -d "$(rustc "+$channel" --print sysroot)/lib/rustlib/src/rust/library" ]; then
    say "add the component rust-src (rustup)"
    rustup component add rust-src --toolchain "$channel"
  fi
  if ! rustup target list --installed --toolchain "$channel" | grep -q '^x86_64-unknown-none$'; then
    say "add the target x86_64-unknown-none (rustup)"
    rustup target add x86_64-unknown-none --toolchain "$channel"
  fi
  fetch_kernel
}

# The device's other end lies outside the clone and is shared by all clones: its folder is named after its version.
check_guest() {
  local folder=${XDG_CACHE_HOME:-$HOME/.cache}/bletchley/tools/vhost-device-vsock-$VSOCK
  fetch_kernel
  [ ! -x "$folder/bin/vhost-device-vsock" ] || return 0
  say "build vhost-device-vsock $VSOCK (cargo, into $folder)"
  CARGO_TARGET_DIR=$folder/build cargo install --quiet --locked --root "$folder" --version "=$VSOCK" vhost-device-vsock
  rm -rf "$folder/build"
}

fetch_kernel() {
  local folder package
  folder=${XDG_CACHE_HOME:-$HOME/.cache}/bletchley/tools/linux-cloud
  [ ! -e "$folder/ready" ] || return 0
  command -v apt-get >/dev/null || fail "the machine that tests boot needs a Debian kernel, and there is no apt here"
  # Which kernel is the present one changes, and older ones go away. Without root, what apt knows has to do.
  [ "$(id -u)" -ne 0 ] || apt-get update -qq
  package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*-cloud-amd64\)$/\1/p' | head -n 1)
  [ -n "$package" ] || fail "apt knows no linux-image-cloud-amd64; run apt-get update, then this again"
  say "fetch $package (apt, into $folder)"
  rm -rf "$folder"
  mkdir -p "$folder"
  (cd "$folder" && apt-get download -qq "$package" 2>/dev/null && dpkg-deb -x "$package"_*.deb . && rm -f "$package"_*.deb) ||
    fail "$package could not be fetched"
  touch "$folder/ready"
}

# The fuzzer lies outside the clone and is shared by all clones: its folder is named after its version.
check_python() {
  local folder=${XDG_CACHE_HOME:-$HOME/.cache}/bletchley/tools/schemathesis-$SCHEMATHESIS
  [ ! -x "$folder/bin/schemathesis" ] || return 0
  say "install schemathesis $SCHEMATHESIS (pip, into $folder)"
  python3 -m venv "$folder"
  "$folder/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$SCHEMATHESIS"
}

check_node() {
  local version major
  version=$(node --version 2>/dev/null) || fail "Node.js is still missing; $NODE_AT_LEAST or newer is needed (https://nodejs.org)"
  major=${version#v}
  [ "${major%%.*}" -ge "$NODE_AT_LEAST" ] ||
    fail "Node.js $version is too old for the contract tests: $NODE_AT_LEAST or newer is needed (https://nodejs.org)"
}

check_anvil() {
  local folder=pipeline/deliver/tests/anvil
  [ ! -x "$folder/node_modules/.bin/anvil" ] || return 0
  say "install Anvil (npm, into $folder)"
  npm ci --silent --prefix "$folder"
}

install_packages() {
  local as_root=()
  command -v apt-get >/dev/null ||
    fail "please install with this system's own package manager, then run this again: ${packages[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
      fail "root is needed to install packages; please run: apt-get update && apt-get install ${packages[*]}"
    as_root=(sudo)
  fi
  say "install ${packages[*]} (apt)"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
}

for part in "$@"; do
  case "$part" in
    rust | cc | wasm | node | anvil | services | python | tpm | guest | microvm) "need_$part" ;;
    *) fail "unknown part '$part': rust, cc, wasm, node, anvil, services, python, tpm, guest or microvm" ;;
  esac
done
[ "${#packages[@]}" -eq 0 ] || install_packages
for part in "$@"; do
  case "$part" in
    node | anvil | python | guest | microvm) "check_$part" ;;
  esac
done
say "ready: $*"
