/*
 * zstd with contexts that are used again: making one costs more than compressing a small package.
 *
 * Levels are zstd's, but for those below 0. zstd gets faster there by leaving literals as they are, which makes bodies
 * half as large again; here they are compressed, and only the search for matches is hastier.
 */
#ifndef SIPHON_COMPRESSION_H
#define SIPHON_COMPRESSION_H

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace siphon {

constexpr const char kEncodingZstd[] = "zstd";
constexpr const char kEncodingNone[] = "none";

class Compressor
{
public:
	/* Level 0: never compress. From kFastestLevel to max_level(). */
	explicit Compressor(int level);
	~Compressor();
	Compressor(const Compressor &) = delete;
	Compressor &operator=(const Compressor &) = delete;

	struct Result
	{
		std::string_view body; /* good until the next call, or as long as the input */
		const char *encoding;
		uint64_t nanoseconds = 0; /* that it took; 0: it was not tried */
	};

	/* Compresses, unless the input is tiny or does not get smaller: then the body is the input itself. */
	Result compress(std::string_view input);

	static constexpr int kFastestLevel = -7;
	static int max_level();

private:
	void set(int parameter, int value);
	void set_table(bool large);

	const int level_;
	bool large_ = false; /* set_table() was told so */
	ZSTD_CCtx_s *context_;
	std::vector<char> buffer_;
};

class Decompressor
{
public:
	Decompressor();
	~Decompressor();
	Decompressor(const Decompressor &) = delete;
	Decompressor &operator=(const Decompressor &) = delete;

	/* Appends to `output`. False: the encoding is unknown, or the body is not what it says. */
	bool decompress(std::string_view body, std::string_view encoding, std::string *output);

private:
	ZSTD_DCtx_s *context_;
};

} // namespace siphon

#endif
