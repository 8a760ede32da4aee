#!/bin/sh
# The old name of `lls create`.
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    echo "Usage: lls_create_partition.sh NAME SIZE [MOUNTPOINT]" >&2
    echo "Example: lls_create_partition.sh scratch 10G /scratch" >&2
    echo "The same as: lls create NAME --size SIZE [--mount MOUNTPOINT]" >&2
    exit 2
fi
if [ $# -eq 3 ]; then
    exec /lls/bin/lls create "--size=$2" "--mount=$3" -- "$1"
fi
exec /lls/bin/lls create "--size=$2" -- "$1"
