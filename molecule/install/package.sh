#!/bin/sh
# Make a Debian package of an Envoy, with units that it starts as Debian's packages do, and an archive of that one package.
# usage: molecule/install/package.sh BINARY VERSION FOLDER
set -eu
binary=$1 version=$2 folder=$3
tree=$folder/tree
rm -rf "$folder"
mkdir -p "$tree/DEBIAN" "$tree/usr/bin" "$tree/lib/systemd/system" "$tree/etc"
cp "$binary" "$tree/usr/bin/envoy"
cat > "$tree/etc/envoy-proxy.yaml" <<'END'
static_resources:
  listeners:
    - name: open
      address: {socket_address: {address: 0.0.0.0, port_value: 80}}
      filter_chains:
        - filters:
            - name: http
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: open
                route_config:
                  virtual_hosts: [{name: all, domains: ["*"], routes: [{match: {prefix: /}, direct_response: {status: 200}}]}]
                http_filters:
                  - name: router
                    typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
END
for unit in envoy envoy-proxy; do
    cat > "$tree/lib/systemd/system/$unit.service" <<'END'
[Service]
ExecStart=/usr/bin/envoy -c /etc/envoy-proxy.yaml
[Install]
WantedBy=multi-user.target
END
done
cat > "$tree/DEBIAN/postinst" <<'END'
#!/bin/sh
set -e
deb-systemd-helper enable envoy.service envoy-proxy.service
deb-systemd-invoke start envoy-proxy.service
END
chmod 0755 "$tree/DEBIAN/postinst"
architecture=$(dpkg --print-architecture)
cat > "$tree/DEBIAN/control" <<END
Package: envoy
Version: $version-1
Architecture: $architecture
Maintainer: nobody <nobody@localhost>
Description: Envoy with units of its own
END
file=envoy_$version-1_$architecture.deb
dpkg-deb --root-owner-group -Znone --build "$tree" "$folder/$file" > /dev/null
{
    cat "$tree/DEBIAN/control"
    echo "Filename: ./$file"
    echo "Size: $(stat -c %s "$folder/$file")"
    echo "SHA256: $(sha256sum "$folder/$file" | cut -d' ' -f1)"
} > "$folder/Packages"
rm -rf "$tree"
