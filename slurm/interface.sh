# The network of this node, for Ray, Gloo and NCCL alike: sourced by node.sh. Sets `address`.
#
# DISTMED_INTERFACE names the interface (ib0, bond0, …); without it, that of the default route, or the first with an address.

interface=${DISTMED_INTERFACE:-$(ip -4 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)}
interface=${interface:-$(ip -4 -o address show scope global | awk 'NR == 1 {print $2}')}
address=$(ip -4 -o address show dev "$interface" scope global | awk 'NR == 1 {sub("/.*", "", $4); print $4}')
if [[ -z $address ]]; then
    echo "distmed: interface '$interface' of $(hostname) has no address; set DISTMED_INTERFACE" >&2
    exit 1
fi
export NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-$interface} GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-$interface}
