"""The few lines of Python and shell that run on an instance before gesso is there, or around it. Sent as text.

They must do with any Python 3, and import nothing but its standard library.
"""

from __future__ import annotations

MARK = "gesso-probe "
BEGINS = "gesso-begins"  # the line after which what the program prints is its own: login scripts print before

# Is this a gesso image, and which Pythons are there? `sh` reads it from its stdin, whatever the login shell is.
PROBE = r"""
[ -f /opt/gesso/build.json ] && echo 'gesso-probe image'
for name in python3 python3.14 python3.13 python3.12 python3.11 /opt/venv/bin/python /venv/main/bin/python \
    /workspace/venv/bin/python /root/venv/bin/python /opt/conda/bin/python \
    "$HOME"/.local/share/uv/python/*/bin/python3; do
  path=$(command -v "$name" 2>/dev/null) || continue
  "$path" -I -c "$FACTS" 2>/dev/null </dev/null
done
exit 0
"""

# What a Python is: its own path, version, implementation, machine, and libc ("" is musl).
FACTS = """\
import json, os, platform, sys
libc = ''
try:
    libc = os.confstr('CS_GNU_LIBC_VERSION') or ''
except (AttributeError, ValueError, OSError):
    pass
print('gesso-probe ' + json.dumps({'python': sys.executable, 'version': list(sys.version_info[:3]),
      'implementation': sys.implementation.name, 'machine': platform.machine(), 'libc': libc.split(' ')[-1]}))
"""

# Takes a bundle from stdin: HASH and NAME are its arguments. Into a new folder, which gets its name when all is there;
# older ones go, unless a heal is at work.
RECEIVE = """\
import fcntl, hashlib, os, shutil, sys, tarfile, tempfile
def at_work(path):
    try:
        with open(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except FileNotFoundError:
        return False
    except OSError:
        return True
wanted, name = sys.argv[1:3]
home = os.path.join(os.path.expanduser('~'), '.cache', 'gesso')
try:
    os.makedirs(home, 0o700, exist_ok=True)
    os.chmod(home, 0o700)
    for old in [] if at_work(os.path.join(home, 'heal.lock')) else os.listdir(home):
        if old.startswith(('heal-', '.new-')) and old != name:
            shutil.rmtree(os.path.join(home, old), ignore_errors=True)
    new = tempfile.mkdtemp(prefix='.new-', dir=home)
    whole = os.path.join(new, 'bundle')
    digest = hashlib.sha256()
    with open(whole, 'wb') as file:
        for part in iter(lambda: sys.stdin.buffer.read(1 << 18), b''):
            digest.update(part)
            file.write(part)
    if digest.hexdigest() != wanted:
        sys.exit('gesso-probe what arrived is not what was sent')
    inside = os.path.join(new, 'inside')
    with tarfile.open(whole) as archive:
        if hasattr(tarfile, 'data_filter'):
            archive.extractall(inside, filter='data')
        else:  # Python before 3.11.4 and its like
            for member in archive:
                inward = not member.name.startswith('/') and '..' not in member.name.split('/')
                if not inward or not (member.isfile() or member.isdir()):
                    raise tarfile.TarError('%s: does not belong into it' % member.name)
            archive.extractall(inside)
    final = os.path.join(home, name)
    shutil.rmtree(final, ignore_errors=True)
    os.rename(inside, final)
    shutil.rmtree(new)
except (OSError, tarfile.TarError) as error:
    sys.exit('gesso-probe %s' % error)
print('gesso-probe ' + final)
"""

# Runs a program as a child, so that it outlives a lost connection, and a line `stop` on stdin ends it as a Ctrl-C does.
KEEP = """\
import signal, subprocess, sys, threading
for name in ('SIGHUP', 'SIGINT'):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
def as_if_alone():
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         start_new_session=True, preexec_fn=as_if_alone)
def hear():
    for line in sys.stdin.buffer:
        if line.strip() == b'stop':
            child.send_signal(signal.SIGINT)
def pass_on(pipe, out):
    for line in pipe:
        try:
            out.write(line)
            out.flush()
        except (OSError, ValueError):
            pass
pass_on([b'gesso-begins\\n'], sys.stdout.buffer)
threading.Thread(target=hear, daemon=True).start()
errors = threading.Thread(target=pass_on, args=(child.stderr, sys.stderr.buffer))
errors.start()
pass_on(child.stdout, sys.stdout.buffer)
errors.join()
code = child.wait()
import os
os._exit(code if code >= 0 else 128 - code)
"""
