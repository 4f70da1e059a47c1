#!/usr/bin/env bash
# Runs tests of regions on a machine whose KVM runs guests, wherever that is called: QEMU emulates a processor with AMD's
# virtualisation. That machine boots Debian's cloud kernel with nothing but this script's files, runs the tests one after
# another, says on its console how each ended, and halts.
#
#   scripts/microvm-test.sh FOLDER [TEST...]
#
# FOLDER holds cryptlet-container and cryptlet-container-microvm; each TEST is a test program of adapters/isolation. Without
# any it runs those that hold for regions in virtual machines, as cargo builds them with the arguments MICROVM_CARGO.
# MICROVM_SECONDS bounds the whole (3600). The machine's kernel is what `scripts/setup.sh microvm` fetched.
set -euo pipefail

readonly seconds=${MICROVM_SECONDS:-3600}
readonly tools=${XDG_CACHE_HOME:-$HOME/.cache}/bletchley/tools/linux-cloud
readonly folder=$1
shift

fail() { printf 'microvm-test: %s\n' "$*" >&2; exit 1; }

[ "$(uname -m)" = x86_64 ] || fail "only x86-64 is known"
[ -e "$tools/ready" ] || fail "no kernel in $tools: run scripts/setup.sh microvm"
kernel=$(find "$tools/boot" -name 'vmlinuz-*' | head -n 1)
[ -n "$kernel" ] || fail "no kernel in $tools: run scripts/setup.sh microvm"
for program in qemu-system-x86_64 cpio busybox; do
  command -v "$program" >/dev/null || fail "$program is missing: run scripts/setup.sh microvm"
done

if [ $# -eq 0 ]; then
  # `sandbox` looks at the descriptors of a process that has no virtual machine.
  read -ra arguments <<<"${MICROVM_CARGO:---release --locked -p cryptlet-isolation}"
  mapfile -t found < <(cargo test "${arguments[@]}" --no-run --message-format=json 2>/dev/null |
    sed -n 's#.*adapters/isolation/tests/\(conformance/main\|microvm\|hostile\|path\|sources\|triggers\|protocol\|sealed\|secret_code\|replay\)\.rs".*"executable":"\([^"]*\)".*#\2#p')
  set -- "${found[@]}"
  [ $# -gt 0 ] || fail "no tests are built: run make build"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,tmp,modules,tests/deps}

# A program, and the libraries that it is linked to, where the linker looks for them.
put() {
  cp "$1" "$root/$2"
  ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -Ln "$library" "$root$library" 2>/dev/null || true
  done
}

cp "$(command -v busybox)" "$root/bin/busybox"
ldd "$root/bin/busybox" >/dev/null 2>&1 && fail "busybox is not static: run scripts/setup.sh microvm"
for module in irqbypass kvm kvm-amd; do
  found=$(find "$tools" -name "$module.ko*" | head -n 1)
  [ -n "$found" ] || fail "module $module is not among the kernel's in $tools"
  case "$found" in
    *.xz) xz -dc "$found" >"$root/modules/$module.ko" ;;
    *) cp "$found" "$root/modules/$module.ko" ;;
  esac
done
# Tests look for the container one folder above themselves.
put "$folder/cryptlet-container" tests/cryptlet-container
put "$folder/cryptlet-container-microvm" tests/cryptlet-container-microvm
names=()
for test in "$@"; do
  name=$(basename "$test")
  name=${name%-*}
  names+=("$name")
  put "$test" "tests/deps/$name"
done

cat >"$root/init" <<INIT
#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
ip link set lo up
for module in irqbypass kvm kvm-amd; do insmod /modules/\$module.ko || echo "microvm-test: module \$module is refused"; done
export CRYPTLET_TEST_MICROVM=/tests/cryptlet-container-microvm RUST_BACKTRACE=0
verdict=passed
for test in ${names[*]}; do
  # Gives a region less time to begin and run than that takes where the processor is emulated.
  skip=; [ \$test != replay ] || skip="--skip a_replay_ends_at_the_limits_of_a_run"
  if /tests/deps/\$test --test-threads=1 \$skip ${MICROVM_ARGS:-}; then echo "microvm-test: \$test passed"
  else echo "microvm-test: \$test FAILED"; verdict=FAILED; fi
done
echo "microvm-test: verdict \$verdict"
poweroff -f
INIT
chmod +x "$root/init"
(cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/initramfs"

printf 'microvm-test: boots %s, runs %s\n' "$(basename "$kernel")" "${names[*]}"
log=$work/console
status=0
# One processor: with two, an interrupt was lost once while one of them was in a guest, and everything stood still. On a busy
# machine an emulated timer is late, and the kernel would take it for broken (no_timer_check).
timeout "$seconds" qemu-system-x86_64 -M q35,accel=tcg -cpu max,+svm,+npt -smp 1 -m 3072 -nodefaults -no-reboot \
  -display none -serial stdio -kernel "$kernel" -initrd "$work/initramfs" \
  -append "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check" </dev/null | sed -u 's/\r$//' | tee "$log" || status=$?
if grep -q '^microvm-test: verdict passed$' "$log"; then exit 0; fi
[ "$status" -ne 124 ] || fail "no verdict within $seconds s; the last lines above are where it stood"
grep '^microvm-test: .* FAILED$' "$log" >&2 || fail "the machine ended without a verdict (status $status); its console is above"
exit 1
