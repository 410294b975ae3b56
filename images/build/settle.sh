# settle.sh SITE-PACKAGES EPOCH: set one fixed timestamp on everything that the last step touched, and recompile its
# bytecode. Bytecode contains its source's timestamp, so the order matters.
set -e
site=$1 epoch=$2
python=/opt/venv/bin/python
rm -rf /opt/venv/.lock /tmp/* /tmp/.[!.]*
find "$site/sqlalchemy" -name __pycache__ -prune -exec rm -r {} +
find "$site"/sqlalchemy "$site"/sqlalchemy-*.dist-info -type f -exec touch -d "@$epoch" {} +
"$python" -m compileall -q -j 0 "$site/sqlalchemy"
find "$site"/sqlalchemy "$site"/sqlalchemy-*.dist-info -exec touch -d "@$epoch" {} +
touch -d "@$epoch" "$site" /opt/venv /opt /etc /run /tmp
