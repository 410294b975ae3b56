# settle.sh SITE-PACKAGES EPOCH: give everything that the last step touched one fixed time, and make its bytecode anew
# with it. Bytecode carries its source's time, so the order matters.
set -e
site=$1 epoch=$2
python=/opt/venv/bin/python
rm -rf /opt/venv/.lock /tmp/* /tmp/.[!.]*
find "$site/sqlalchemy" -name __pycache__ -prune -exec rm -r {} +
find "$site"/sqlalchemy "$site"/sqlalchemy-*.dist-info -type f -exec touch -d "@$epoch" {} +
"$python" -m compileall -q -j 0 "$site/sqlalchemy"
find "$site"/sqlalchemy "$site"/sqlalchemy-*.dist-info -exec touch -d "@$epoch" {} +
touch -d "@$epoch" "$site" /opt/venv /opt /etc /run /tmp
