/* See compression.h. */
#include "reader/compression.h"

#include <chrono>
#include <new>

/* For the names of parameters only. */
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

namespace siphon {

/* Below this, what zstd's frame costs is about what it saves. */
static constexpr size_t kWorthwhile = 128;
/* More than a message can hold, compressed; keeps a crafted body from taking all memory. */
static constexpr unsigned long long kMaxContent = 256 * 1024 * 1024;
/* Beyond this zstd's fast levels take a larger table, and look for longer matches. */
static constexpr size_t kLargeInput = 256 * 1024;

Compressor::Compressor(int level) : level_(level), context_(ZSTD_createCCtx())
{
	if (context_ == nullptr)
		throw std::bad_alloc();
	set(ZSTD_c_compressionLevel, level_ < 0 ? 1 : level_);
	if (level_ >= 0)
		return;
	set(ZSTD_c_targetLength, 1 - level_); /* how many bytes to skip between searches; 1 is that of level 1 */
	set(ZSTD_c_literalCompressionMode, ZSTD_ps_enable);
}

/* One that zstd does not know leaves the body larger, or compressing slower. */
void
Compressor::set(int parameter, int value)
{
	ZSTD_CCtx_setParameter(context_, static_cast<ZSTD_cParameter>(parameter), value);
}

/*
 * Packages of half a megabyte are compressed faster, and mostly smaller, with the table that zstd has for inputs of up to
 * a quarter: it stays in the first-level cache.
 */
void
Compressor::set_table(bool large)
{
	if (large == large_)
		return;
	large_ = large;
	set(ZSTD_c_windowLog, large ? 18 : 0);
	set(ZSTD_c_hashLog, large ? 13 : 0);
	set(ZSTD_c_minMatch, large ? 6 : 0);
}

Compressor::~Compressor()
{
	ZSTD_freeCCtx(context_);
}

int
Compressor::max_level()
{
	return ZSTD_maxCLevel();
}

Compressor::Result
Compressor::compress(std::string_view input)
{
	if (buffer_.size() < input.size())
		buffer_.resize(input.size());

	/* A copy: others may write to where the input is, and what is sent must be what was checked. */
	auto plain = [&]() -> Result {
		std::copy(input.begin(), input.end(), buffer_.begin());
		return {std::string_view(buffer_.data(), input.size()), kEncodingNone};
	};

	if (level_ == 0 || input.size() < kWorthwhile)
		return plain();

	set_table(level_ <= 1 && input.size() > kLargeInput);

	auto begins = std::chrono::steady_clock::now();

	/* One byte less than the input: what does not get smaller is an error, and found out early. */
	size_t size = ZSTD_compress2(context_, buffer_.data(), input.size() - 1, input.data(), input.size());

	Result result = ZSTD_isError(size) ? plain() : Result{std::string_view(buffer_.data(), size), kEncodingZstd};
	auto took = std::chrono::steady_clock::now() - begins;

	result.nanoseconds = static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(took).count());
	return result;
}

Decompressor::Decompressor() : context_(ZSTD_createDCtx())
{
	if (context_ == nullptr)
		throw std::bad_alloc();
}

Decompressor::~Decompressor()
{
	ZSTD_freeDCtx(context_);
}

bool
Decompressor::decompress(std::string_view body, std::string_view encoding, std::string *output)
{
	if (encoding == kEncodingNone)
	{
		output->append(body);
		return true;
	}
	if (encoding != kEncodingZstd)
		return false;

	unsigned long long content = ZSTD_getFrameContentSize(body.data(), body.size());

	if (content == ZSTD_CONTENTSIZE_UNKNOWN || content == ZSTD_CONTENTSIZE_ERROR || content > kMaxContent)
		return false;

	size_t before = output->size();

	output->resize(before + content);
	size_t size = ZSTD_decompressDCtx(context_, output->data() + before, content, body.data(), body.size());

	return !ZSTD_isError(size) && size == content;
}

} // namespace siphon
