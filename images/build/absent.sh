# absent.sh [PACKAGE...]: install one empty package that provides these, so that apt does not install the real ones.
set -e
[ $# -gt 0 ] || exit 0
folder=$(mktemp -d)
mkdir -m 755 "$folder/gesso-absent" "$folder/gesso-absent/DEBIAN"
provides=$(echo "$*" | sed 's/ /, /g')
cat >"$folder/gesso-absent/DEBIAN/control" <<END
Package: gesso-absent
Version: 1
Architecture: all
Maintainer: gesso
Provides: $provides
Description: stands in for packages that this image does without
END
dpkg-deb --root-owner-group --build "$folder/gesso-absent" >/dev/null
dpkg -i "$folder/gesso-absent.deb" >/dev/null
rm -r "$folder"
