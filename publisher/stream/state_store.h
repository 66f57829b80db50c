/*
 * A small durable map beside the log, for consumers and for the next publisher: table states, schemas, who publishes what.
 *
 * Every write is a compare-and-set against what this process saw of the key last, so that a publisher which was replaced
 * without noticing changes nothing, however late its write arrives: Fatal(Replaced) if somebody else wrote the key.
 */
#ifndef SIPHON_STREAM_STATE_STORE_H
#define SIPHON_STREAM_STATE_STORE_H

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace siphon {

class StateStore
{
public:
	virtual ~StateStore() = default;

	/* Reads all entries in one go; what was seen of keys before is forgotten. nullopt: not yet, see log.h. */
	virtual std::optional<std::map<std::string, std::string>> load(std::string *why) = 0;
	/*
	 * One entry as it is now; *value is nullopt if there is none. adopt: the next put() is made against this. False: not
	 * yet.
	 */
	virtual bool get(const std::string &key, bool adopt, std::optional<std::string> *value, std::string *why) = 0;
	/* True: it is durable. False: not yet, for who asks again with the same value. One that the key has costs nothing. */
	virtual bool put(const std::string &key, const std::string &value, std::string *why) = 0;
	/* As put(), and a value that the key has is written once more: what was sent to the key before is refused from then on. */
	virtual bool renew(const std::string &key, const std::string &value, std::string *why) = 0;
	virtual bool erase(const std::string &key, std::string *why) = 0;
	/* Erases all entries of tables, see is_table_key(). False: not yet. */
	virtual bool erase_tables(std::string *why) = 0;
	/* Is another number when an answer has come since, so that a call that had none may have it now. */
	virtual uint64_t answers() const = 0;
};

} // namespace siphon

#endif
