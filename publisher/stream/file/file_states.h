/*
 * A state store in a directory: a file for each key, named like it, that holds the key, a line feed and the value. A name
 * that would be too long is cut and has a hash of the key behind "~".
 *
 * The directory is locked, so that nobody else writes, and each write is against what is there.
 */
#ifndef SIPHON_STREAM_FILE_STATES_H
#define SIPHON_STREAM_FILE_STATES_H

#include <functional>
#include <string>

#include "publisher/stream/state_store.h"

namespace siphon {

class FileStates : public StateStore
{
public:
	/* path, open: as of FileLog. sync: what was written survives a power cut, too. */
	FileStates(const std::string &path, bool sync, std::function<int(std::string *why)> open)
		: path_(path), sync_(sync), open_(std::move(open))
	{
	}

	std::optional<std::map<std::string, std::string>> load(std::string *why) override;
	bool get(const std::string &key, bool adopt, std::optional<std::string> *value, std::string *why) override;
	bool put(const std::string &key, const std::string &value, std::string *why) override;
	/* Nobody else has anything under way: there is one owner, and nothing that it writes comes later. */
	bool renew(const std::string &key, const std::string &value, std::string *why) override
	{
		return put(key, value, why);
	}
	bool erase(const std::string &key, std::string *why) override;
	bool erase_tables(std::string *why) override;
	/* There is nothing to wait for. */
	uint64_t answers() const override { return 0; }

private:
	bool usable(std::string *why);
	int read(const std::string &name, std::string *text) const;
	int write(const std::string &name, const std::string &text) const;
	bool not_yet(const std::string &what, int error, std::string *why) const;

	const std::string path_;
	const bool sync_;
	const std::function<int(std::string *)> open_;
	int directory_ = -1;
};

} // namespace siphon

#endif
