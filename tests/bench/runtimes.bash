# What gets the runtimes of the table `runtimes` ready, and commands too long for it. Sourced, behind measure.bash.
# shellcheck disable=SC2154  # $work is that file's

# A template to go on from. That there is one does not say that it is of use: a start tells by its steps.
warm_up() {
    local try
    for try in 1 2 3; do
        microvm --timing=json busybox true 2> "$work/timing" || continue
        ! jq -e '.steps[] | select(.step == "kernel")' "$work/timing" >/dev/null || continue
        ((try > 1)) && return
    done
    echo 'starts do not go on from the template' >&2
    return 1
}

# An OCI bundle of the image, whose command is the one given, or `true`.
bundle() {
    local dir=$work/${1:-bundle} command=${2:-true}
    [[ ! -d $dir ]] || return 0
    umoci unpack --image busybox:latest "$dir" >/dev/null
    jq --arg command "$command" '.process.terminal = false | .process.args = ($command | split(" "))' \
        "$dir/config.json" > "$work/config"
    mv "$work/config" "$dir/config.json"
}

podman_image() { podman tag "$(podman pull -q oci:busybox:latest)" localhost/busybox; }

# A guest for QEMU that runs `true` and is gone: with the least around it, no container in it and no disk.
initramfs() {
    local tree=$work/tree
    mkdir -p "$tree/bin"
    cp /bin/busybox "$tree/bin/"
    printf '#!/bin/busybox sh\n/bin/busybox true && echo up\n/bin/busybox reboot -f\n' > "$tree/init"
    chmod +x "$tree/init"
    (cd "$tree" && find . | busybox cpio -o -H newc) > "$work/initramfs" 2>/dev/null
    # A guest that panics ends just as well.
    qemu_microvm </dev/null > "$work/console"
    grep -q up "$work/console" || { tail -n 1 "$work/console" >&2; return 1; }
}

# What `bring` has unpacked, with its own libraries.
brought() {
    local libraries=/opt/runtimes/usr/lib/x86_64-linux-gnu
    LD_LIBRARY_PATH=$libraries QEMU_MODULE_DIR=$libraries/qemu "$@"
}

# A guest of QEMU's with Bulkhead's kernel and its arguments. The machine, its devices, and -append come behind.
qemu=(qemu-system-x86_64 -L /opt/runtimes/usr/share/qemu -L /opt/runtimes/usr/share/seabios
    -enable-kvm -cpu host -m 256 -smp 1 -nodefaults -no-user-config -display none -no-reboot -serial stdio
    -kernel "$(dirname "$(command -v bulkhead)")/../lib/bulkhead/vmlinux")
qemu_arguments='console=ttyS0 quiet reboot=t panic=-1 tsc=reliable no_timer_check random.trust_cpu=on rcupdate.rcu_expedited=1'

# Without the devices that a kernel for virtual machines does without.
qemu_microvm() {
    brought "${qemu[@]}" -M microvm,acpi=off,pit=off,pic=off,rtc=off -initrd "$work/initramfs" -append "$qemu_arguments"
}
