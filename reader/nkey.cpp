/* See nkey.h. */
#include "reader/nkey.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include <openssl/crypto.h>
#include <openssl/evp.h>

namespace siphon {

static constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/* The kinds, in the upper five bits of a byte. A seed has its own, and behind it the one of its key. */
static constexpr uint8_t kSeed = 18 << 3;
static constexpr uint8_t kUser = 20 << 3;
static constexpr size_t kKeySize = 32;

using Bytes = std::vector<uint8_t>;

/* False if it has other characters. */
static bool
decode(std::string_view text, Bytes *bytes)
{
	uint32_t bits = 0;
	int count = 0;

	for (char c : text)
	{
		size_t value = kAlphabet.find(c);

		if (value == std::string_view::npos)
			return false;
		bits = (bits << 5 | static_cast<uint32_t>(value)) & 0xffff;
		count += 5;
		if (count >= 8)
		{
			count -= 8;
			bytes->push_back(static_cast<uint8_t>(bits >> count));
		}
	}
	return true;
}

static std::string
encode(const Bytes &bytes)
{
	std::string text;
	uint32_t bits = 0;
	int count = 0;

	for (uint8_t byte : bytes)
	{
		bits = (bits << 8 | byte) & 0xffff;
		for (count += 8; count >= 5; count -= 5)
			text += kAlphabet[bits >> (count - 5) & 31];
	}
	if (count > 0)
		text += kAlphabet[bits << (5 - count) & 31];
	return text;
}

/* CRC-16/XMODEM, which comes behind a key, lower byte first. */
static uint16_t
checksum(const uint8_t *bytes, size_t size)
{
	uint16_t crc = 0;

	for (size_t i = 0; i < size; i++)
	{
		crc = static_cast<uint16_t>(crc ^ bytes[i] << 8);
		for (int bit = 0; bit < 8; bit++)
			crc = static_cast<uint16_t>((crc & 0x8000) != 0 ? crc << 1 ^ 0x1021 : crc << 1);
	}
	return crc;
}

std::string
nkey_of_seed(std::string_view seed)
{
	Bytes bytes;
	Bytes key(1 + kKeySize);
	size_t size = kKeySize;
	std::string text;

	if (!decode(seed, &bytes) || bytes.size() != 2 + kKeySize + 2 || bytes[0] != (kSeed | kUser >> 5) ||
		bytes[1] != static_cast<uint8_t>(kUser << 3) ||
		checksum(bytes.data(), 2 + kKeySize) != (bytes[2 + kKeySize] | bytes[3 + kKeySize] << 8))
		return text;

	std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY *)> pair(
		EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, bytes.data() + 2, kKeySize), EVP_PKEY_free);

	OPENSSL_cleanse(bytes.data(), bytes.size());
	key[0] = kUser;
	if (!pair || EVP_PKEY_get_raw_public_key(pair.get(), key.data() + 1, &size) != 1 || size != kKeySize)
		return text;

	uint16_t crc = checksum(key.data(), key.size());

	key.push_back(static_cast<uint8_t>(crc));
	key.push_back(static_cast<uint8_t>(crc >> 8));
	return encode(key);
}

} // namespace siphon
