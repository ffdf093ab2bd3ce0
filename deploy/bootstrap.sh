# Sourced by deploy/up, deploy/down and deploy/test: Debian packages and the virtual environment.
# Everything is done only where it is missing, so that a second run costs a few milliseconds.

set -euo pipefail
umask 022
checkout=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
cache=/var/cache/cumulet
export CUMULET_STARTED=${CUMULET_STARTED:-$(date +%s.%N)}

say() { printf '%4d s  %s\n' "$SECONDS" "$*" >&2; }
die() { say "$*"; exit 1; }

[ "$(id -u)" = 0 ] || die "run this as root: it makes network namespaces, users and packages"

# Names are the same in Debian 12 and 13 and in Ubuntu 24.04, except where said.
runtime_packages() {
    echo postgresql rabbitmq-server haproxy
    echo qemu-system-x86 qemu-utils dnsmasq-base nftables iproute2 procps util-linux
    echo wireguard-tools wireguard-go
    echo vde2 libslirp0 stunnel4
    echo openssh-client netcat-openbsd ca-certificates hcloud-cli
    echo mmdebstrap debian-archive-keyring extlinux e2fsprogs fdisk lz4 cpio
    # psycopg2 is built from source
    echo python3-venv python3-dev gcc libpq-dev
}
test_packages() {
    runtime_packages
    echo iputils-ping busybox-static curl
    . /etc/os-release
    case $ID in
        ubuntu) ;; # Chromium is a snap there, which cannot be driven headless as root
        *) echo chromium ;;
    esac
}

missing_packages() { # prints those of "$@" that are not installed
    local name
    for name in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null || true)" = installed ] ||
            echo "$name"
    done
}

# The packages' own services must not start, now or at the next boot: the cloud runs its own.
# Nothing that was there before is touched.
install_packages() (
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || exit 0
    say "installing Debian packages:" $missing
    policy=/usr/sbin/policy-rc.d cluster=/etc/postgresql-common/createcluster.conf
    undo=()
    cleanup() { local step; for step in "${undo[@]}"; do eval "$step"; done; }
    trap cleanup EXIT
    if [ ! -e $policy ]; then
        undo+=("rm -f $policy")
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    undo+=("rm -f $log")
    get() { apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 || { cat "$log" >&2; die "apt-get $1 failed"; }; }
    get update
    if [ -n "$(missing_packages postgresql)" ]; then
        get install --no-install-recommends -y postgresql-common
        cp -p $cluster $cluster.cumulet
        undo+=("mv $cluster.cumulet $cluster")
        sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' $cluster
    fi
    get install --no-install-recommends -y $missing
    if [ -d /run/systemd/system ]; then
        for name in $missing; do
            case $name in
                postgresql) systemctl -q disable postgresql.service || true ;;
                rabbitmq-server) systemctl -q disable rabbitmq-server.service epmd.socket || true ;;
                haproxy) systemctl -q disable haproxy.service || true ;;
            esac
        done
    fi
    say "packages installed"
)

# Sets `python` to the interpreter of a virtual environment that holds exactly what $1 pins.
# It is shared by all checkouts and readable by every user, so services can run from it.
virtual_environment() {
    local base=/usr/bin/python3 requirements=$1 key venv
    key=$({ "$base" -VV; uname -m; cat "$checkout/requirements.txt" "$requirements"; } | sha256sum)
    venv=$cache/venv-${key:0:12}
    python=$venv/bin/python
    [ ! -e "$venv/complete" ] || return 0
    mkdir -p "$cache"
    exec 9>"$cache/venv.lock"
    flock -n 9 || { say "waiting for another run that makes the virtual environment"; flock 9; }
    if [ ! -e "$venv/complete" ]; then
        say "making the virtual environment $venv (about a minute)"
        rm -rf "$venv"
        "$base" -m venv "$venv"
        "$python" -m pip install --quiet --no-input --disable-pip-version-check -r "$requirements" >&2
        touch "$venv/complete"
        say "virtual environment made"
    fi
    exec 9>&-
}

deploy() { # runs the Python behind the command
    cd "$checkout"
    exec env -u DJANGO_SETTINGS_MODULE PYTHONPATH="$checkout" "$python" -m deploy "$@"
}
