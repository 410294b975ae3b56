# Sourced by every build step that uses the network: proxies' certificates and package indexes come from the host as
# BuildKit secrets, which end up in no layer and no history.
APT_CA=
if [ -s /run/secrets/ca ]; then
  export SSL_CERT_FILE=/run/secrets/ca PIP_CERT=/run/secrets/ca REQUESTS_CA_BUNDLE=/run/secrets/ca
  APT_CA="-o Acquire::https::CaInfo=/run/secrets/ca"
fi
if [ -s /run/secrets/index ]; then
  set -a
  . /run/secrets/index
  set +a
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
