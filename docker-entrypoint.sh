#!/bin/sh
# retrieval-sfm with these arguments; a work pool's runs begin with `prefect` (or python), and are left as they are.
set -eu
case "${1:-}" in
    prefect | python | sh) exec "$@" ;;
    *) exec retrieval-sfm "$@" ;;
esac
