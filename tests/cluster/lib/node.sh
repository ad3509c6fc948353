# shellcheck shell=bash
# Prepares a node before its programs start: folders, configuration, the cgroup, the namespaces, the images of the node itself.
# And removes all of it.

# template NAME OUT: replaces each @NAME@ by the shell variable; an unknown one is an error.
template() {
    local text name
    text=$(<"$here/config/$1")
    while [[ $text =~ @([a-z_]+)@ ]]; do
        name=${BASH_REMATCH[1]}
        text=${text//@$name@/${!name}}
    done
    printf '%s\n' "$text" >"$2"
}

lay_out_files() {
    mkdir -p "$bin" "$logs" "$state"/{etc/cni,lib,log}
    local name
    # shellcheck disable=SC2034 # for the template
    max_files=$(ulimit -Hn)
    [[ $max_files != unlimited ]] || max_files=1000000
    for name in containerd.toml kubelet.yaml kube-proxy.yaml coredns.yaml; do template "$name" "$state/etc/$name"; done
    template cni.conflist "$state/etc/cni/10-rig.conflist"
    : >"$state/etc/resolv.conf"
}

# unpack_programs: from the cache; builds what is not there.
unpack_programs() {
    local name file list
    list=$(timeout 3600 "$here/build")
    while read -r name file; do
        zstd -q -d -f "$file" -o "$bin/$name"
        chmod +x "$bin/$name"
    done <<<"$list"
    for name in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy; do
        ln -sf kube "$bin/$name"
    done
    gcc -static -Os -s -o "$bin/pause" "$here/pause/pause.c"
}

# The kubelet wants its root cgroup to exist in every hierarchy (v1) or the one (v2).
make_cgroup() {
    local hierarchy
    if [[ -e /sys/fs/cgroup/cgroup.controllers ]]; then
        mkdir -p "/sys/fs/cgroup$cgroup"
        return
    fi
    for hierarchy in /sys/fs/cgroup/*/; do
        # Two names of one hierarchy (cpu and cpu,cpuacct) are one folder.
        [[ -e $hierarchy/cgroup.procs ]] && mkdir -p "$hierarchy$cgroup"
        if [[ -e $hierarchy/cpuset.cpus ]]; then
            # A new cpuset is empty, and no process may enter it.
            cat "$hierarchy/cpuset.cpus" >"$hierarchy$cgroup/cpuset.cpus"
            cat "$hierarchy/cpuset.mems" >"$hierarchy$cgroup/cpuset.mems"
        fi
    done
}

# In every hierarchy. Fails while killed processes still exist in one of them.
remove_cgroup() {
    local folder left=0
    for folder in /sys/fs/cgroup"$cgroup" /sys/fs/cgroup/*"$cgroup"; do
        [[ ! -d $folder ]] || find "$folder" -depth -type d -exec rmdir {} + || left=1
    done
    return "$left"
}

laid_out() { [[ -e $state/laid-out && -n $(rig_pid) ]]; }

# Own namespaces for processes, mounts, network and host name. The cgroup tree is that of the machine, which the kubelet manages. Only
# the processes in the namespaces keep them.
make_namespaces() {
    setsid --fork unshare --pid --fork --kill-child --mount --propagation private --mount-proc --net --uts \
        "$here/inside/init" >"$logs/init.log" 2>&1 </dev/null 8>&- 9>&-
    wait_for 20 "the rig's namespaces" laid_out || { cat "$logs/init.log" >&2 && return 1; }
    init=$(rig_pid)
}

# load ARCHIVE
load() { images import --all-platforms "$1" >>"$logs/images.log" 2>&1 || { tail -n 5 "$logs/images.log" >&2 && return 1; }; }

load_own_images() {
    local name
    for name in pause coredns; do
        mkdir -p "$state/images/$name"
        cp "$bin/$name" "$state/images/$name/$name"
        "$here/../images/pack" --name "localhost/wscluster-rig/$name:1" --root "$state/images/$name" \
            --entrypoint "/$name" "$state/images/$name.tar"
        load "$state/images/$name.tar"
    done
    rm -rf "$state/images"
}

# take_down: in any state, also after a crash. When the first process ends, the kernel kills all others of the rig and removes its
# mounts and its network; folders remain.
take_down() {
    local pid
    pid=$(rig_pid)
    if [[ -n $pid ]]; then
        kill -KILL "$pid"
        wait_for 30 "end of the rig's processes" rig_gone
    fi
    wait_for 10 "an empty cgroup" remove_cgroup
    rm -rf --one-file-system "$state"
}

rig_gone() { [[ -z $(rig_pid) ]]; }
