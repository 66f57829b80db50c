/* See compression.h. */
#include "compression.h"

#include <new>

#include <zstd.h>

namespace siphon {

/* Below this, what zstd's frame costs is about what it saves. */
static constexpr size_t kWorthwhile = 128;
/* More than a message can hold, compressed; keeps a crafted body from taking all memory. */
static constexpr unsigned long long kMaxContent = 256 * 1024 * 1024;

Compressor::Compressor(int level) : level_(level), context_(ZSTD_createCCtx())
{
	if (context_ == nullptr)
		throw std::bad_alloc();
	if (level_ > 0)
		ZSTD_CCtx_setParameter(context_, ZSTD_c_compressionLevel, level_);
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

	/* One byte less than the input: what does not get smaller is an error, and found out early. */
	size_t size = ZSTD_compress2(context_, buffer_.data(), input.size() - 1, input.data(), input.size());

	if (ZSTD_isError(size))
		return plain();
	return {std::string_view(buffer_.data(), size), kEncodingZstd};
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
