# user.sh EPOCH: create the user of ComfyUI, and open the folders that an instance writes to every user: it may run as any
# (`docker run --user`, Kubernetes). A boot closes its own. Everything gets one fixed timestamp.
set -e
epoch=$1
grep -q ^comfyui: /etc/group || echo 'comfyui:x:18188:' >> /etc/group
grep -q ^comfyui: /etc/passwd ||
  echo 'comfyui:x:18188:18188:ComfyUI:/workspace/gesso/home:/usr/sbin/nologin' >> /etc/passwd
install -d -m 1777 /workspace /run/gesso /var/log/gesso
touch -d "@$epoch" /etc/group /etc/passwd /etc /workspace /run/gesso /run /var/log/gesso /var/log
