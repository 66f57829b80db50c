/* See http_text.h. */
#include "publisher/http/http_text.h"

#include <new>

#include <zlib.h>

namespace siphon {

static constexpr std::chrono::seconds kFresh{1};
/* Below this it is not worth it. */
static constexpr size_t kCompressed = 16 * 1024;

std::string
gzip(const std::string &text)
{
	/* 15 bits of window, and gzip's header instead of zlib's. */
	constexpr int kWindow = 15 + 16;
	constexpr int kMemory = 8;
	z_stream stream = {};

	if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, kWindow, kMemory, Z_DEFAULT_STRATEGY) != Z_OK)
		throw std::bad_alloc();

	std::string compressed(deflateBound(&stream, text.size()), '\0');

	stream.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(text.data()));
	stream.avail_in = static_cast<uInt>(text.size());
	stream.next_out = reinterpret_cast<Bytef *>(compressed.data());
	stream.avail_out = static_cast<uInt>(compressed.size());
	deflate(&stream, Z_FINISH);
	compressed.resize(stream.total_out);
	deflateEnd(&stream);
	return compressed;
}

HttpAnswer
HttpText::answer(const HttpRequest &request, const std::shared_ptr<const Status> &status)
{
	Clock::time_point now = Clock::now();
	HttpAnswer answer;

	if (!plain_ || made_of_ != status || now - made_at_ >= kFresh)
	{
		plain_ = std::make_shared<const std::string>(make_(*status));
		compressed_ = nullptr;
		made_of_ = status;
		made_at_ = now;
	}
	answer.type = type_;
	answer.shared = plain_;
	answer.headers.push_back({"Vary", "Accept-Encoding"});
	if (request.gzip && plain_->size() >= kCompressed)
	{
		if (!compressed_)
			compressed_ = std::make_shared<const std::string>(gzip(*plain_));
		answer.shared = compressed_;
		answer.headers.push_back({"Content-Encoding", "gzip"});
	}
	return answer;
}

} // namespace siphon
