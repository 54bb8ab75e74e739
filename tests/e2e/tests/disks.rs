//! The disks of a sandbox: its image's, whatever that is made of, and the one that takes the writes.

use bulkhead_e2e::shell::output;

#[test]
fn an_image_of_many_layers_is_one_disk() {
    // More than the PCI bus has slots; each layer replaces, adds and removes a file.
    let made = r#"
        set -e; t=$(mktemp -d); cd $t
        layers='' diff_ids=''
        for i in $(seq 60); do
            mkdir -p layer/shared; echo $i > layer/last; echo $i > layer/shared/of$i
            [ $i = 1 ] || : > layer/shared/.wh.of$((i - 1))
            tar -C layer -cf $i.tar last shared
            layers="$layers,\"$i.tar\"" diff_ids="$diff_ids,\"sha256:$(sha256sum < $i.tar | head -c 64)\""
            rm -r layer
        done
        tar -xOf $BUSYBOX manifest.json | jq -r '.[0].Layers[0]' > base
        tar -xf $BUSYBOX $(cat base)
        diff_ids="\"sha256:$(sha256sum < $(cat base) | head -c 64)\"$diff_ids"
        echo '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"]},
            "rootfs":{"type":"layers","diff_ids":['$diff_ids']}}' > config.json
        echo '[{"Config":"config.json","RepoTags":["many:latest"],"Layers":["'$(cat base)'"'$layers']}]' > manifest.json
        tar -chf image.tar manifest.json config.json $(cat base) $(seq -f %g.tar 60)
        bulkhead run --rm image.tar sh -c 'cat /last; ls /shared; ls /sys/block | grep -c "^[vp]"'
        rm -r $t"#;
    assert_eq!(output(made), "60\nof60\n2");
}

#[test]
fn what_a_container_deletes_gives_its_space_back_to_the_host() {
    let watched = r#"
        write='dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null; sync; echo written; read go'
        coproc C { exec bulkhead run --rm -i $BUSYBOX sh -c "$write; rm /big; sync; echo gone; read go"; }
        blocks() {
            for file in /proc/$(pgrep -n bulkhead-vmm)/fd/*; do
                case $(readlink $file) in *' (deleted)') stat -L -c %b $file ;; esac
            done | sort -n | tail -n 1
        }
        read line <&${C[0]}; full=$(blocks); echo go >&${C[1]}
        # The guest's file system lets its disk know when it finds the time.
        read line <&${C[0]}; for try in $(seq 150); do after=$(blocks); [ $after -ge $((16 * 2048)) ] || break; sleep 0.2; done
        echo go >&${C[1]}; wait $C_PID
        [ $full -ge $((64 * 2048)) ] && [ $after -lt $((16 * 2048)) ] && echo "given back" || echo "$full, then $after""#;
    assert_eq!(output(watched), "given back");
}

#[test]
fn what_is_read_of_an_image_is_not_copied_to_the_guests_memory() {
    let program = r#"
import os
def cached(): return next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("Cached:"))
before, read = cached(), 0
for directory, _, names in os.walk("/usr/lib"):
    for path in (os.path.join(directory, name) for name in names):
        if os.path.isfile(path): read += len(open(path, "rb").read())
print(read >> 20, cached() - before >> 10)"#;
    let told = output(&format!("bulkhead run --rm $PYTHON python3 -c '{program}'"));
    let numbers: Vec<i64> = told.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let [read, cached] = numbers[..] else { panic!("{told}") };
    assert!(read > 20 && cached < read / 5, "{cached} MiB cached of {read} MiB read");
}
