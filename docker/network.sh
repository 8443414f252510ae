# Read by each step of the Dockerfile that fetches something: the mirror and the certificates that were
# given hold for that step, and nothing of them stays in the image.
set -eu
export DEBIAN_FRONTEND=noninteractive PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
[ -n "${PIP_INDEX_URL:-}" ] || unset PIP_INDEX_URL

rm -rf /tmp/apt && cp -r /etc/apt /tmp/apt
if [ -n "${APT_MIRROR:-}" ]; then
    find /tmp/apt '(' -name '*.list' -o -name '*.sources' ')' \
        -exec sed -i "s|http://deb.debian.org|${APT_MIRROR%/}|" {} +
fi
if [ -f /given/ca.crt ]; then
    export PIP_CERT=/given/ca.crt
    echo 'Acquire::https::CAInfo "/given/ca.crt";' >/tmp/apt/apt.conf.d/99given
fi
echo 'Dir::Etc "/tmp/apt";' >/tmp/apt/given.conf
export APT_CONFIG=/tmp/apt/given.conf

install_debian() {
    apt-get -qq update
    apt-get -qq install -y --no-install-recommends "$@" >/dev/null
}

leave_nothing() {
    rm -rf /tmp/* /var/tmp/* /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/*
}
