#!/bin/sh
# The old name of `lls delete`.
if [ $# -ne 1 ]; then
    echo "Usage: lls_delete_partition.sh NAME" >&2
    echo "Example: lls_delete_partition.sh mine" >&2
    echo "The same as: lls delete NAME; lls undelete NAME brings it back" >&2
    exit 2
fi
exec /lls/bin/lls delete -- "$1"
