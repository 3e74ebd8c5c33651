#!/bin/sh
# Run by the image's entrypoint after roles.sql, on an empty data folder only.
set -eu
psql --set ON_ERROR_STOP=1 --username postgres --dbname "$POSTGRES_DB" \
    --set owner="$NIGHTSHIFT_OWNER_PASSWORD" --set app="$NIGHTSHIFT_APP_PASSWORD" <<'SQL'
ALTER ROLE nightshift_owner PASSWORD :'owner';
ALTER ROLE nightshift_app PASSWORD :'app';
SQL
