# settle.sh SITE-PACKAGES EPOCH: set one fixed timestamp on everything that the last step touched, and recompile its
# bytecode. Bytecode contains its source's timestamp, so the order matters. Then create the user of ComfyUI, and open the
# folders that an instance writes to every user: it may run as any (`docker run --user`, Kubernetes). A boot closes its own.
set -e
site=$1 epoch=$2
python=/opt/venv/bin/python
rm -rf /opt/venv/.lock /tmp/* /tmp/.[!.]*
find "$site/sqlalchemy" -name __pycache__ -prune -exec rm -r {} +
find "$site"/sqlalchemy "$site"/sqlalchemy-*.dist-info -type f -exec touch -d "@$epoch" {} +
"$python" -m compileall -q -j 0 "$site/sqlalchemy"
find "$site"/sqlalchemy "$site"/sqlalchemy-*.dist-info -exec touch -d "@$epoch" {} +
grep -q ^comfyui: /etc/group || echo 'comfyui:x:18188:' >> /etc/group
grep -q ^comfyui: /etc/passwd ||
  echo 'comfyui:x:18188:18188:ComfyUI:/workspace/gesso/home:/usr/sbin/nologin' >> /etc/passwd
install -d -m 1777 /workspace /run/gesso /var/log/gesso
touch -d "@$epoch" /etc/group /etc/passwd /workspace /run/gesso /var/log/gesso /var/log "$site" /opt/venv /opt /etc /run /tmp
