# Print whether this is a gesso image, and a line for each Python that exists. `sh` reads this script from its stdin,
# whatever the login shell is; $DESCRIBE_PYTHON holds describe_python.py.
[ -f /opt/gesso/build.json ] && echo 'gesso-probe image'
for name in python3 python3.14 python3.13 python3.12 python3.11 /opt/venv/bin/python /venv/main/bin/python \
    /workspace/venv/bin/python /root/venv/bin/python /opt/conda/bin/python \
    "$HOME"/.local/share/uv/python/*/bin/python3; do
  path=$(command -v "$name" 2>/dev/null) || continue
  "$path" -I -c "$DESCRIBE_PYTHON" 2>/dev/null </dev/null
done
exit 0
