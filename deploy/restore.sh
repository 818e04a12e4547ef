#!/bin/sh
# Brings a backup back into an empty installation.    restore.sh FOLDER
# Stop watcher and workers first. It refuses to overwrite a database that is there. Afterwards: `worker db upgrade` (by
# URL), `worker reconcile`, `worker check`, and start. It asks the program where to, as backup.sh does.
set -eu
umask 077
source=${1:?from where: restore.sh FOLDER}
here=$(cd "$(dirname "$0")/.." && pwd)
for program in "${WORKER:-}" "$here/venv/bin/worker" "$here/.venv/bin/worker" "$(command -v worker || true)"; do
    [ -x "$program" ] && break
done
[ -x "$program" ] || { echo "restore: the program worker is not found: name it in WORKER" >&2; exit 1; }
places=$("$program" settings --shell)
home='' database='' store=''
eval "$places"
echo "state folder $home, $([ -n "$database" ] && echo "a database by URL" || echo SQLite), store $store"
test -f "$source/database" || { echo "restore: no backup in $source" >&2; exit 1; }
mkdir -p "$home"
if [ -n "$database" ]; then
    # into an empty database (createdb): what is there already is an error, and nothing is changed
    pg_restore --exit-on-error --single-transaction --no-owner --dbname="$database" "$source/database"
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
