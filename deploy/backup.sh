#!/bin/sh
# Backs up an installation while it runs: the database first, then the store (an object without a row is harmless, a row without
# its object is not).    backup.sh FOLDER
# Asks the program which state folder, database and store are in force, so that it backs up what the service uses; WORKER
# names the program where it is neither beside this script nor on the PATH. Needs pg_dump for PostgreSQL, python3 for
# SQLite, flock. FOLDER then holds patients: keep it as the store is kept.
set -eu
umask 077
target=${1:?where to: backup.sh FOLDER}
here=$(cd "$(dirname "$0")/.." && pwd)
for program in "${WORKER:-}" "$here/venv/bin/worker" "$here/.venv/bin/worker" "$(command -v worker || true)"; do
    [ -x "$program" ] && break
done
[ -x "$program" ] || { echo "backup: the program worker is not found: name it in WORKER" >&2; exit 1; }
places=$("$program" settings --shell)
home='' database='' store=''
eval "$places"
echo "state folder $home, $([ -n "$database" ] && echo "a database by URL" || echo SQLite), store $store"
mkdir -p "$target"
# nothing that the copy of the database names may be pruned before it is copied: `worker prune` and the watcher ask for this lock
case $store in
s3://*) ;;
*)
    mkdir -p "$store"
    exec 9>>"$store/.backup.lock"
    flock --exclusive 9
    ;;
esac
if [ -n "$database" ]; then
    pg_dump --format=custom --file="$target/database.partial" --dbname="$database"
else
    # SQLite's own backup: whole and consistent beside a writer, which a copy of the file is not
    rm -f "$target/database.partial"
    python3 -c 'import sqlite3, sys
source, copy = (sqlite3.connect(path) for path in sys.argv[1:])
source.backup(copy)
copy.execute("PRAGMA journal_mode = DELETE")
copy.close()' "$home/screening.sqlite" "$target/database.partial"
fi
mv "$target/database.partial" "$target/database"
case $store in
s3://*)
    sync
    echo "backed up to $target, but for the store: $store is kept by versioning or replication of the bucket"
    exit 0
    ;;
esac
mkdir -p "$target/store"
# a copy that was interrupted may have left half a file: what it wrote is copied again
copying="$target/store.copying"
[ ! -e "$copying" ] || find "$target/store" -type f -cnewer "$copying" -delete
touch --date='1 second ago' "$copying"
# files of the store never change, so only new ones are copied
cp --archive --no-clobber "$store/." "$target/store/"
rm "$copying"
find "$target/store" -name '.*.partial' -delete
sync
echo "backed up to $target"
