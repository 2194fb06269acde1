#!/bin/sh
# Makes the PEM files of this directory: what only OpenSSL makes, with keys for these tests alone.
set -e
cd "$(dirname "$0")"
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT

# Without -extfile, `x509 -req` makes version 1.
key "$tmp/self.key"
openssl req -new -key "$tmp/self.key" -subj /CN=v1 -out "$tmp/self.csr"
openssl x509 -req -days 36500 -in "$tmp/self.csr" -signkey "$tmp/self.key" -out "$tmp/self.crt" 2>/dev/null
cat "$tmp/self.key" "$tmp/self.crt" > v1-self-signed.pem

key "$tmp/ca.key"
openssl req -new -x509 -days 36500 -key "$tmp/ca.key" -subj /CN=ca -out "$tmp/ca.crt"
cat "$tmp/ca.crt" "$tmp/ca.key" > ca.pem
key "$tmp/leaf.key"
openssl req -new -key "$tmp/leaf.key" -subj /CN=leaf -out "$tmp/leaf.csr"
openssl x509 -req -days 36500 -in "$tmp/leaf.csr" -CA "$tmp/ca.crt" -CAkey "$tmp/ca.key" \
    -set_serial 1 -out "$tmp/leaf.crt" 2>/dev/null
cat "$tmp/leaf.crt" "$tmp/leaf.key" "$tmp/ca.crt" > v1-leaf.pem

# SEC1 as old OpenSSL prints it: with the curve in a block of its own and once more in the key.
openssl ecparam -name secp384r1 -genkey -out "$tmp/sec1.key"
openssl req -new -x509 -days 36500 -key "$tmp/sec1.key" -subj /CN=sec1 -out "$tmp/sec1.crt"
cat "$tmp/sec1.key" "$tmp/sec1.crt" > sec1-p384.pem

openssl ec -in "$tmp/ca.key" -aes128 -passout pass:x -out "$tmp/enc.key" 2>/dev/null
cat "$tmp/enc.key" "$tmp/ca.crt" > encrypted-sec1.pem
openssl pkcs8 -topk8 -in "$tmp/ca.key" -passout pass:x -out "$tmp/enc8.key"
cat "$tmp/ca.crt" "$tmp/enc8.key" > encrypted-pkcs8.pem

openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out "$tmp/small.key" 2>/dev/null
openssl req -new -x509 -days 36500 -key "$tmp/small.key" -subj /CN=small -out "$tmp/small.crt"
cat "$tmp/small.key" "$tmp/small.crt" > rsa-1024.pem

# Keys of all kinds that Perl nodes take.
kind() {
    file=$1
    shift
    openssl genpkey "$@" -out "$tmp/kind.key" 2>/dev/null
    openssl req -new -x509 -days 36500 -key "$tmp/kind.key" -subj /CN=AnyEvent::MP -out "$tmp/kind.crt"
    cat "$tmp/kind.key" "$tmp/kind.crt" > "$file"
}
kind p521.pem -algorithm EC -pkeyopt ec_paramgen_curve:P-521
kind rsa-6144.pem -algorithm RSA -pkeyopt rsa_keygen_bits:6144
kind rsa-8192.pem -algorithm RSA -pkeyopt rsa_keygen_bits:8192
kind rsa-e3.pem -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3
kind rsa-pss.pem -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048
kind ed448.pem -algorithm ED448
kind secp256k1.pem -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1
