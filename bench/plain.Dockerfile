# The baseline: a plain Dockerfile with the same contents as gesso's image, written as usual. It is built from the
# context that `invoke render` writes.
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv git libgl1 libglib2.0-0 caddy \
      supervisor && rm -rf /var/lib/apt/lists/*
RUN --mount=type=secret,id=ca,target=/run/secrets/ca [ ! -s /run/secrets/ca ] || export PIP_CERT=/run/secrets/ca; \
    python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir uv
COPY sources/ComfyUI /opt/ComfyUI
COPY sources/nodes /opt/ComfyUI/custom_nodes
RUN --mount=type=secret,id=ca,target=/run/secrets/ca [ ! -s /run/secrets/ca ] || export SSL_CERT_FILE=/run/secrets/ca; \
    sed -i /argostranslate/d /opt/ComfyUI/custom_nodes/*/requirements.txt; \
    VIRTUAL_ENV=/opt/venv /opt/venv/bin/uv pip install --no-cache torch==2.13.0 torchvision==0.28.0 torchaudio==2.11.0 \
      "sqlalchemy>=2.0,<2.1" -r /opt/ComfyUI/requirements.txt \
      $(for f in /opt/ComfyUI/custom_nodes/*/requirements.txt; do echo "-r $f"; done)
CMD ["/opt/venv/bin/python", "/opt/ComfyUI/main.py", "--cpu", "--listen", "127.0.0.1", "--port", "18188"]
