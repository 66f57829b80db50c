# Certificates, NKeys and .creds files for tests, made by openssl.
package Siphon::Credentials;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use JSON::PP;
use MIME::Base64 qw(encode_base64url);
use PostgreSQL::Test::Utils;
use Siphon ();

our @EXPORT = qw(make_authority make_certificate make_nkey make_creds operator_conf);

# There is none to make it in before the test runs.
my $made;

sub directory
{
	return $made //= PostgreSQL::Test::Utils::tempdir();
}

sub write_bytes
{
	my ($path, $bytes) = @_;

	Siphon::write_file($path, $bytes);
	chmod 0600, $path;
	return $path;
}

sub openssl
{
	my (@arguments) = @_;
	my ($out, $error) = run_command([ 'openssl', @arguments ]);

	die "openssl @arguments: $error" if $?;
	return;
}

# A certificate authority: its files, as a hash of cert and key.
sub make_authority
{
	my ($name) = @_;
	my %authority = (cert => directory() . "/$name.pem", key => directory() . "/$name.key");

	# Python asks for what it may be used for.
	openssl(qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2), '-subj' => "/CN=$name",
		'-addext' => 'keyUsage = critical, keyCertSign, cRLSign', '-keyout' => $authority{key}, '-out' => $authority{cert});
	return \%authority;
}

# A certificate that an authority signed, for a subjectAltName like IP:127.0.0.1.
sub make_certificate
{
	my ($authority, $name, $alternative) = @_;
	my %pair = (cert => directory() . "/$name.pem", key => directory() . "/$name.key");

	openssl(qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2), '-subj' => "/CN=$name",
		'-CA' => $authority->{cert}, '-CAkey' => $authority->{key},
		'-addext' => "subjectAltName = $alternative", '-addext' => 'basicConstraints = critical, CA:FALSE',
		'-keyout' => $pair{key}, '-out' => $pair{cert});
	return \%pair;
}

# ---- NKeys: ed25519 keys in base32, with their kind in front and a checksum behind ---------------------------------

my %KIND = (operator => 14 << 3, account => 0, user => 20 << 3);
my $SEED = 18 << 3;

sub base32
{
	my ($bytes) = @_;
	my @alphabet = ('A' .. 'Z', 2 .. 7);
	my $bits = unpack 'B*', $bytes;

	$bits .= '0' while length($bits) % 5;
	return join '', map { $alphabet[ oct "0b$_" ] } $bits =~ /(.{5})/g;
}

sub with_checksum
{
	my ($bytes) = @_;
	my $crc = 0;

	for my $byte (unpack 'C*', $bytes)
	{
		$crc ^= $byte << 8;
		$crc = ($crc & 0x8000 ? $crc << 1 ^ 0x1021 : $crc << 1) & 0xffff for 1 .. 8;
	}
	return $bytes . pack 'v', $crc;
}

my $keys = 0;

# A key of an operator, account or user: seed, public, seed_file.
sub make_nkey
{
	my ($kind) = @_;
	my $pem = directory() . '/nkey' . ++$keys . '.pem';

	openssl(qw(genpkey -algorithm ed25519 -out), $pem);
	openssl('pkey', '-in' => $pem, '-outform' => 'DER', '-out' => "$pem.private");
	openssl('pkey', '-in' => $pem, '-pubout', '-outform' => 'DER', '-out' => "$pem.public");

	my $private = substr slurp_file("$pem.private"), -32;
	my $public = substr slurp_file("$pem.public"), -32;
	my $seed = base32(with_checksum(pack('CC', $SEED | $KIND{$kind} >> 5, ($KIND{$kind} & 31) << 3) . $private));

	return {
		pem => $pem,
		seed => $seed,
		public => base32(with_checksum(pack('C', $KIND{$kind}) . $public)),
		seed_file => write_bytes("$pem.seed", "$seed\n")
	};
}

# ---- JWTs, with which an operator vouches for accounts, and an account for users --------------------------------------

sub jwt
{
	my ($issuer, $subject, $kind, $claims, %more) = @_;
	my $now = time;
	my $body = encode_json(
		{
			jti => "test-$now-" . ++$keys,
			iat => $now,
			iss => $issuer->{public},
			sub => $subject->{public},
			name => $kind,
			nats => { %$claims, type => $kind, version => 2 },
			%more
		});
	my $signed = encode_base64url('{"typ":"JWT","alg":"ed25519-nkey"}') . '.' . encode_base64url($body);
	my $file = write_bytes(directory() . "/jwt$keys", $signed);

	openssl(qw(pkeyutl -sign -rawin), '-inkey' => $issuer->{pem}, '-in' => $file, '-out' => "$file.sig");
	return "$signed." . encode_base64url(slurp_file("$file.sig"));
}

# What nats-server.conf needs for one operator with this account, and one for the server itself.
sub operator_conf
{
	my ($account) = @_;
	my $operator = make_nkey('operator');
	my $system = make_nkey('account');
	my %limits = map { $_ => -1 }
	  qw(subs data payload imports exports conn leaf mem_storage disk_storage streams consumer);
	my %claims = (limits => { %limits, wildcards => JSON::PP::true });
	# The server's own has no storage.
	my %system_claims = (limits => { %{ $claims{limits} }, map { $_ => 0 } qw(mem_storage disk_storage streams consumer) });

	return
		'operator: "' . jwt($operator, $operator, 'operator', { system_account => $system->{public} }) . "\"\n"
	  . "system_account: $system->{public}\n"
	  . "resolver: MEMORY\n"
	  . "resolver_preload: {\n"
	  . "  $account->{public}: \"" . jwt($operator, $account, 'account', \%claims) . "\"\n"
	  . "  $system->{public}: \"" . jwt($operator, $system, 'account', \%system_claims) . "\"\n"
	  . "}\n";
}

# Puts a user's .creds into a file, good until then, in seconds since 1970. Returns the user's key.
sub make_creds
{
	my ($path, $account, $expires) = @_;
	my $user = make_nkey('user');
	my $jwt = jwt($account, $user, 'user', { pub => {}, sub => {}, subs => -1, data => -1, payload => -1 },
		defined $expires ? (exp => $expires) : ());

	# Readers see the old ones or the new ones.
	write_bytes("$path.new",
		"-----BEGIN NATS USER JWT-----\n$jwt\n------END NATS USER JWT------\n\n"
		  . "************************* IMPORTANT *************************\n\n"
		  . "-----BEGIN USER NKEY SEED-----\n$user->{seed}\n------END USER NKEY SEED------\n");
	rename "$path.new", $path or die "$path: $!";
	return $user;
}

1;
