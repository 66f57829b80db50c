/* See file_reader.h. */
#include "publisher/stream/file/file_reader.h"

#include "reader/subject.h"

namespace siphon {

/* Messages are large, headers are small. */
static constexpr size_t kMessageBatch = 32;
static constexpr size_t kHeaderBatch = 512;
static constexpr size_t kBatchBytes = 4 * 1024 * 1024;
/* Messages of whatever subject that are read at once, so that others have their turn. */
static constexpr size_t kScanBatch = 20000;

void
FileReader::pull()
{
	pulling_ = true;
	wakeup_.notify();
}

bool
FileReader::take(std::vector<StoredMessage> *messages)
{
	size_t taken = 0;
	size_t bytes = 0;
	Record record;

	if (recoveries_ != log_.recoveries())
		return false;
	for (size_t scanned = 0; pulling_ && scanned < kScanBatch; scanned++)
	{
		Found found = reader_.next(&record, !headers_, log_.durable());

		if (found == Found::Failed)
			return false;
		if (found == Found::Broken || (found == Found::End && reader_.place() <= log_.durable()))
			log_.refuse_damaged(reader_);
		if (found == Found::End)
			pulling_ = false;
		if (found == Found::End || !subject_covers(subjects_, record.subject))
			continue;
		messages->push_back(record.stored());
		bytes += record.body.size();
		if (++taken >= (headers_ ? kHeaderBatch : kMessageBatch) || bytes >= kBatchBytes)
			pulling_ = false;
	}
	pending_ = reader_.place() <= log_.durable() ? log_.durable() + 1 - reader_.place() : 0;
	/* It goes on at the next call. */
	if (pulling_)
		wakeup_.notify();
	return true;
}

} // namespace siphon
