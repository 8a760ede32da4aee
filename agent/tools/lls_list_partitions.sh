#!/bin/sh
# The old name of `lls list`.
exec /lls/bin/lls list "$@"
