#!/bin/sh
# Brings a backup back into an empty installation.    restore.sh FOLDER
# Stop watcher and workers first. It refuses to overwrite a database that is there. Afterwards: `worker db upgrade` (by
# URL), `worker reconcile`, `worker check`, and start.
set -eu
umask 077
source=${1:?from where: restore.sh FOLDER}
home=${SCREENING_HOME:-.screening}
store=${SCREENING_STORE:-$home/store}
test -f "$source/database" || { echo "restore: no backup in $source" >&2; exit 1; }
mkdir -p "$home"
if [ -n "${SCREENING_DATABASE:-}" ]; then
    # into an empty database (createdb): what is there already is an error, and nothing is changed
    pg_restore --exit-on-error --single-transaction --no-owner --dbname="$SCREENING_DATABASE" "$source/database"
else
    if [ -e "$home/screening.sqlite" ]; then
        echo "restore: $home/screening.sqlite is there; move it away first" >&2
        exit 1
    fi
    cp "$source/database" "$home/screening.sqlite"
fi
case $store in
s3://*) echo "restore: bring back what $store lacks by the bucket's own means" ;;
*)
    mkdir -p "$store"
    cp --archive --no-clobber "$source/store/." "$store/"
    ;;
esac
echo "restored from $source: now \`worker reconcile\`"
