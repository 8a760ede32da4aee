#!/bin/sh
# The old name of `lls snapshot`.
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    echo "Usage: lls_create_snapshot.sh SOURCE NAME [MOUNTPOINT]" >&2
    echo "Example: lls_create_snapshot.sh genomes mine /data" >&2
    echo "The same as: lls snapshot SOURCE NAME [--mount MOUNTPOINT]" >&2
    exit 2
fi
if [ $# -eq 3 ]; then
    exec /lls/bin/lls snapshot "--mount=$3" -- "$1" "$2"
fi
exec /lls/bin/lls snapshot -- "$1" "$2"
