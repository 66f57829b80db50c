/* See state_writes.h. */
#include "publisher/table/state_writes.h"

namespace siphon {

static constexpr std::chrono::milliseconds kAgain{100};

static std::string
name_of(std::string_view schema, std::string_view table)
{
	std::string name(schema);

	name += '\0';
	name += table;
	return name;
}

static size_t
bytes_of(const std::string &schema, const std::string &table, const std::string &json)
{
	/* The names twice, and about what the containers take. */
	return 2 * (schema.size() + table.size()) + json.size() + 400;
}

void
StateWrites::add(Write write)
{
	bytes_ += bytes_of(write.schema, write.table, write.json);
	writes_.push_back(std::move(write));

	Write *added = &writes_.back();

	added->frame.schema = added->schema;
	added->frame.table = added->table;
	names_[name_of(added->schema, added->table)] = added;
}

void
StateWrites::enter_schema(const TableFrame &table, std::string json, uint64_t position)
{
	add({std::string(table.schema), std::string(table.table), table, std::move(json), nullptr, 0, position});
}

void
StateWrites::end_table(const TableFrame &table, End end, uint64_t token, uint64_t position)
{
	add({std::string(table.schema), std::string(table.table), table, "", end, token, position});
}

StateWrites::Turn
StateWrites::turn(const TableFrame &frame, Clock::time_point now)
{
	auto found = names_.find(name_of(frame.schema, frame.table));

	if (found == names_.end())
		return Turn::Now;

	Write *write = found->second;
	const TableFrame &table = write->frame;

	/* The decoder writes what a renamed table has become behind its end, too, while it knows it by the former name. */
	if (write->end != nullptr && write->end != &HandOff::on_table_removed && frame.kind == FrameKind::Schema &&
		frame.oid == table.oid && frame.generation == table.generation && frame.lsn <= table.lsn)
		return Turn::Never;
	if (!write->begun)
		begin(write, now);
	return write->done ? Turn::Now : Turn::Later;
}

/* True: the write is done. A schema goes last: who reads what came of the table needs it up to the end. */
bool
StateWrites::finish(Write *write, Clock::time_point now)
{
	const TableFrame &frame = write->frame;

	if (write->end == nullptr)
		return hand_off_.is_stale(frame) ||
			   schemas_.write(frame.schema, frame.table, write->json, stream_.log().body_limit(), now);
	if (!write->looked)
	{
		if (!(hand_off_.*write->end)(frame, now) ||
			!schemas_.find(frame.schema, frame.table, frame.oid, frame.generation, &write->own, now))
			return false;
		write->looked = true;
	}
	return !write->own || schemas_.erase(frame.schema, frame.table, now);
}

void
StateWrites::go_on(Write *write, Clock::time_point now)
{
	if (!finish(write, now))
		return;
	write->done = true;
	names_.erase(name_of(write->schema, write->table));
}

/* False: not yet. */
bool
StateWrites::begin(Write *write, Clock::time_point now)
{
	if (ledger_.stored_token() < write->token)
		return false;
	write->begun = true;
	go_on(write, now);
	if (!write->done)
		under_way_.push_back(write);
	return true;
}

void
StateWrites::drop_done()
{
	std::erase_if(under_way_, [](const Write *write) { return write->done; });
	for (; !writes_.empty() && writes_.front().done; writes_.pop_front())
	{
		const Write &write = writes_.front();

		bytes_ -= bytes_of(write.schema, write.table, write.json);
		next_ -= next_ > 0 ? 1 : 0;
	}
}

void
StateWrites::step(Clock::time_point now)
{
	uint64_t answers = stream_.states().answers();

	if (answers != answers_ || now >= again_at_)
	{
		answers_ = answers;
		again_at_ = now + kAgain;
		for (Write *write : under_way_)
			go_on(write, now);
		drop_done();
	}
	for (; next_ < writes_.size() && under_way_.size() < kUnderWay; next_++)
	{
		if (!writes_[next_].begun && !begin(&writes_[next_], now))
			break;
	}
	drop_done();
}

void
StateWrites::clear()
{
	writes_.clear();
	names_.clear();
	under_way_.clear();
	next_ = 0;
	bytes_ = 0;
}

} // namespace siphon
