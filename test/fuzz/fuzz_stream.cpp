/*
 * Fuzzes what is read back from the stream (libFuzzer): siphon-tail and the catch_up of held changes put messages together
 * and decode packages, markers and watermarks; a publisher that starts reads cursors, message ids and the states of
 * tables. Others may write to a NATS server too.
 *
 * Whatever comes, it is refused in the way that is meant for it, or what it becomes is right: lines are JSON, what was
 * parsed and is written again parses as the same, and what was cut into parts comes out whole.
 */
#include "fuzz.h"

#include <cmath>
#include <stdexcept>
#include <vector>

#include <nlohmann/json.hpp>

#include "program/exit_codes.h"
#include "publisher/messages/record_messages.h"
#include "publisher/stream/memory/memory_stream.h"
#include "publisher/table/catch_up_source.h"
#include "publisher/table/table_state.h"
#include "reader/cursor.h"
#include "reader/package_assembler.h"
#include "reader/subject.h"
#include "siphon.pb.h"
#include "tools/tail_json.h"

using namespace siphon;

namespace {

enum Operation : uint8_t { kMessage, kMove, kCursors, kId, kState, kEvent, kParts, kTargets };
enum Kind : uint8_t { kPackage, kBegin, kEnd, kWatermark, kKinds };

constexpr const char kRoot[] = "siphon.main";
const std::string kSubjects[] = {held_subject(kRoot, "public", "t", 0), held_subject(kRoot, "public", "t", 7)};

/* One line or more, each of which is JSON. */
void
require_lines(const std::string &lines)
{
	REQUIRE(!lines.empty() && lines.back() == '\n');
	for (size_t start = 0; start < lines.size();)
	{
		size_t end = lines.find('\n', start);

		REQUIRE(nlohmann::json::accept(lines.begin() + static_cast<ptrdiff_t>(start),
									   lines.begin() + static_cast<ptrdiff_t>(end)));
		start = end + 1;
	}
}

template <typename Body>
bool
parse(Body *body, std::string_view payload)
{
	return body->ParseFromArray(payload.data(), static_cast<int>(payload.size()));
}

template <typename... Body>
void
print_columns(const Body &...body)
{
	std::string line;

	try
	{
		append_column_list(&line, body...);
	}
	catch (const std::runtime_error &)
	{
		return; /* a value that can't be printed */
	}
	require_lines(line);
}

void
print_package(const v1::Package &package)
{
	print_columns(package);
	for (const v1::Event &event : package.events())
	{
		std::string line;

		try
		{
			append_event(&line, package, event);
		}
		catch (const std::runtime_error &)
		{
			continue; /* values that do not fit the columns */
		}
		require_lines(line);
	}
}

/* As siphon-tail does. */
void
print_payload(uint8_t kind, std::string_view payload)
{
	std::string line;
	v1::Package package;
	v1::SnapshotBegin begin;
	v1::SnapshotEnd end;
	v1::Watermark watermark;

	switch (kind % kKinds)
	{
		case kPackage:
			if (parse(&package, payload))
				print_package(package);
			return;
		case kBegin:
			if (!parse(&begin, payload))
				return;
			print_columns(begin, 3);
			append_marker(&line, begin, 3);
			break;
		case kEnd:
			if (!parse(&end, payload))
				return;
			print_columns(end, 3);
			try
			{
				append_marker(&line, end, 3);
			}
			catch (const std::runtime_error &)
			{
				return; /* no count for this partition */
			}
			break;
		case kWatermark:
			if (!parse(&watermark, payload))
				return;
			append_watermark(&line, watermark);
			break;
	}
	require_lines(line);
}

/* Subject, part, encoding and body of a message; what is marked so is compressed as a publisher does it. */
StoredMessage
read_message(FuzzInput *input, Place place)
{
	static Compressor compressor(1);
	StoredMessage message{};
	uint8_t flags = input->byte();

	message.place = place;
	message.subject = kSubjects[flags & 1];
	message.generation = flags & 2 ? 2 : 1;
	message.encoding = flags & 4 ? kEncodingZstd : flags & 8 ? "?" : kEncodingNone;
	message.part = input->text();
	message.first = input->text();
	message.last = input->text();
	message.events = input->text();
	message.body = input->text();
	if (flags & 16)
	{
		Compressor::Result result = compressor.compress(message.body);

		message.encoding = result.encoding;
		message.body = std::string(result.body);
	}
	return message;
}

void
take_message(FuzzInput *input, PackageAssembler *assembler)
{
	uint8_t kind = input->byte();
	StoredMessage message = read_message(input, 1);
	std::string_view payload;

	if (assembler->add(message.subject, message.part, message.encoding, message.body, &payload) ==
		PackageAssembler::Result::Complete)
		print_payload(kind, payload);
}

/* All held messages are moved; what is published for them are whole packages without the events that rows show. */
void
move(FuzzInput *input)
{
	Dice dice(input->number());
	MemoryStream stream(&dice);
	TableState state;
	PackageAssembler assembler;

	state.schema = "public";
	state.table = "t";
	state.generation = 1;
	state.phase = HandOffPhase::CatchUp;
	state.snapshot = {input->number(), 0, static_cast<uint32_t>(input->number()), {3, 5}};
	stream.limit = 64;
	for (size_t count = input->byte() % 8; count > 0; count--)
	{
		StoredMessage message = read_message(input, 0);

		stream.spill().put({kNoPlace,
							message.subject,
							"",
							"",
							{{"Siphon-First", message.first},
							 {"Siphon-Last", message.last},
							 {"Siphon-Events", message.events},
							 {"Siphon-Generation", std::to_string(message.generation)},
							 {"Siphon-Encoding", message.encoding},
							 {"Siphon-Part", message.part}},
							message.body});
	}

	Place last = stream.spill().end;
	CatchUpSource catch_up(state, kRoot, 1, &stream);
	Cursor cursor{1, input->byte(), input->byte(), input->byte()};
	Message message;
	CatchUpSource::Clock::time_point now{};

	catch_up.resume(cursor.part >= 1 && cursor.part <= cursor.total ? &cursor : nullptr, nullptr);
	try
	{
		for (int turn = 0; turn < 1000 && !catch_up.caught_up(last, UINT64_MAX); turn++, now += std::chrono::seconds(1))
		{
			catch_up.fetch(last, now);
			if (!catch_up.prepare())
				continue;

			std::string_view payload;
			std::string part;
			std::string encoding;
			bool left_out = false;

			catch_up.build(&message);
			catch_up.on_sent(1);
			REQUIRE(message.subject.starts_with(std::string(kRoot) + ".events.public.t."));
			for (const Header &header : message.headers)
			{
				part = std::string_view(header.name) == "Siphon-Part" ? header.value : part;
				encoding = std::string_view(header.name) == "Siphon-Encoding" ? header.value : encoding;
				left_out = left_out || (std::string_view(header.name) == "Siphon-First" &&
										header.value < format_position(state.snapshot.lsn, 0));
			}

			PackageAssembler::Result result = assembler.add(message.subject, part, encoding, message.body, &payload);
			v1::Package package;

			REQUIRE(result != PackageAssembler::Result::Invalid);
			if (result != PackageAssembler::Result::Complete || !parse(&package, payload))
				continue;
			for (const v1::Event &event : package.events())
				REQUIRE(!left_out || !state.snapshot.shows(event.commit_lsn(), event.xid()));
		}
	}
	catch (const Fatal &)
	{
		return; /* not what a publisher writes */
	}
	REQUIRE(catch_up.caught_up(last, 1));
}

void
read_cursors(const std::string &text)
{
	Cursors cursors = parse_cursors(text);
	std::string again;

	for (const auto &[name, cursor] : cursors)
		append_cursor(&again, name, cursor);
	REQUIRE(parse_cursors(again) == cursors);
}

void
read_id(const std::string &text)
{
	std::optional<MessageId> id = MessageId::parse(text);

	if (!id)
		return;

	std::optional<MessageId> again = MessageId::parse(id->format());

	REQUIRE(again && again->epoch == id->epoch && again->position == id->position && again->part == id->part);
}

void
read_state(const std::string &text)
{
	std::optional<TableState> state = TableState::parse(text);

	if (!state)
		return;

	std::optional<TableState> again = TableState::parse(state->to_json());

	REQUIRE(again && *again == *state);
}

void
fill_value(FuzzInput *input, v1::Value *value)
{
	switch (input->byte() % 17)
	{
		case 1:
			return value->set_null(true);
		case 2:
			return value->set_integer(static_cast<int64_t>(input->number()));
		case 3:
			return value->set_unsigned_(input->number());
		case 4:
			return value->set_float_(static_cast<float>(std::ldexp(input->byte(), input->byte() - 128)));
		case 5:
			return value->set_double_(std::ldexp(static_cast<double>(input->number()), input->byte() * 8 - 1024));
		case 6:
			return value->set_boolean(input->byte() & 1);
		case 7:
			return value->set_string(input->text());
		case 8:
			return value->set_bytes(input->text());
		case 9:
			return value->set_numeric(input->text());
		case 10:
			return value->set_date(static_cast<int32_t>(input->number()));
		case 11:
			return value->set_time(static_cast<int64_t>(input->number()));
		case 12:
			return value->set_timestamp(static_cast<int64_t>(input->number()));
		case 13:
			return value->set_timestamptz(static_cast<int64_t>(input->number()));
		case 14:
			return value->set_uuid(input->text());
		case 15:
			return value->set_json(input->text());
		case 16:
			return value->set_unchanged_toast(true);
		default:
			return;
	}
}

v1::Package
build_package(FuzzInput *input)
{
	v1::Package package;

	package.set_schema("public");
	package.set_table(input->text());
	for (size_t columns = input->byte() % 4; columns > 0; columns--)
	{
		v1::Column *column = package.add_columns();

		column->set_name(input->text());
		column->set_key(input->byte() & 1);
	}
	for (size_t events = input->byte() % 4; events > 0; events--)
	{
		v1::Event *event = package.add_events();

		event->set_operation(static_cast<v1::Operation>(input->byte() % 7));
		event->set_commit_lsn(input->number());
		event->set_ordinal(input->byte());
		event->set_commit_timestamp(static_cast<int64_t>(input->number()));
		for (size_t values = input->byte() % 4; values > 0; values--)
			fill_value(input, event->add_values());
		for (size_t values = input->byte() % 4; values > 0; values--)
			fill_value(input, event->add_old_values());
	}
	return package;
}

/* A package of any shape, in protobuf and back: what is no UTF-8 does not come back. */
void
print_event(FuzzInput *input)
{
	v1::Package package;

	if (parse(&package, build_package(input).SerializePartialAsString()))
		print_package(package);
}

/* Cut into parts and put together again. */
void
cut(FuzzInput *input)
{
	RecordMessages record(static_cast<int>(input->byte() % 3));
	PackageAssembler assembler;
	uint32_t limit = input->byte() + 1u;
	std::string text = input->text();
	std::string_view payload;
	PackageAssembler::Result result = PackageAssembler::Result::Incomplete;
	Message message;

	record.start(text, {kSubjects[0]}, {}, 1, 1, limit);
	while (record.active())
	{
		std::string part;
		std::string encoding;

		REQUIRE(result == PackageAssembler::Result::Incomplete);
		record.build(&message);
		REQUIRE(message.body.size() <= limit);
		for (const Header &header : message.headers)
			(std::string_view(header.name) == "Siphon-Part" ? part : encoding) = header.value;
		result = assembler.add(message.subject, part, encoding, message.body, &payload);
	}
	REQUIRE(result == PackageAssembler::Result::Complete && payload == text);
}

v1::Value
value(auto set)
{
	v1::Value value;

	set(&value);
	return value;
}

/* All kinds of values, with what a publisher and the decoder make of them. */
v1::Package
sample_package()
{
	v1::Package package;

	package.set_application_identifier("main");
	package.set_schema("public");
	package.set_table("t");
	package.set_generation(1);
	package.set_schema_fingerprint(7);

	std::vector<v1::Value> row = {value([](auto *v) { v->set_integer(42); }),
								  value([](auto *v) { v->set_null(true); }),
								  value([](auto *v) { v->set_unsigned_(1u << 31); }),
								  value([](auto *v) { v->set_float_(1.5f); }),
								  value([](auto *v) { v->set_double_(-1e300); }),
								  value([](auto *v) { v->set_boolean(true); }),
								  value([](auto *v) { v->set_string("a \"title\"\n\xc3\xbc"); }),
								  value([](auto *v) { v->set_bytes(std::string("\0\xff", 2)); }),
								  value([](auto *v) { v->set_numeric("12345678901234567890.12"); }),
								  value([](auto *v) { v->set_date(-800000); }),
								  value([](auto *v) { v->set_time(86400000000); }),
								  value([](auto *v) { v->set_timestamp(INT64_MIN); }),
								  value([](auto *v) { v->set_timestamptz(1767323045000006); }),
								  value([](auto *v) { v->set_uuid("01234567-89ab-cdef-0123-456789abcdef"); }),
								  value([](auto *v) { v->set_json("{\"a\": [1]}"); }),
								  value([](auto *v) { v->set_unchanged_toast(true); })};

	for (size_t i = 0; i < row.size(); i++)
	{
		v1::Column *column = package.add_columns();

		column->set_name("c" + std::to_string(i));
		column->set_type_name("text");
		column->set_type_oid(25);
		column->set_key(i == 0);
	}
	for (v1::Operation operation : {v1::SNAPSHOT, v1::INSERT, v1::UPDATE, v1::DELETE, v1::TRUNCATE})
	{
		v1::Event *event = package.add_events();

		event->set_operation(operation);
		event->set_commit_lsn(0x3006AB8);
		event->set_ordinal(static_cast<uint64_t>(operation));
		event->set_xid(static_cast<uint32_t>(operation));
		event->set_commit_timestamp(1767323045000006);
		if (operation != v1::DELETE && operation != v1::TRUNCATE)
			event->mutable_values()->Assign(row.begin(), row.end());
		if (operation == v1::DELETE)
			*event->add_old_values() = row[0];
		if (operation == v1::UPDATE)
			event->mutable_old_values()->Assign(row.begin(), row.end() - 1), *event->add_old_values() = row[1];
	}
	return package;
}

void
add_message(FuzzSeed *seed, uint8_t flags, const std::string &part, const std::string &body)
{
	seed->byte(flags).text(part).text(format_position(0x3006AB8, 1)).text(format_position(0x3006AB8, 5)).text("5");
	seed->text(body);
}

void
write_seeds(const std::string &corpus)
{
	std::string package = sample_package().SerializeAsString();
	v1::SnapshotBegin begin;
	v1::SnapshotEnd end;
	v1::Watermark watermark;

	begin.set_table("t");
	begin.set_partitions(4);
	begin.set_estimated_rows(-1);
	for (uint64_t count : {1, 0, 300, 2})
		end.add_row_counts(count);
	end.set_partitions(4);
	end.set_snapshot_lsn(0x3006AB8);
	end.add_in_progress(700);
	watermark.set_commit_lsn(0x3006AB8);
	watermark.add_held_tables("public.t");

	std::pair<Kind, std::string> bodies[] = {{kPackage, package},
											 {kBegin, begin.SerializeAsString()},
											 {kEnd, end.SerializeAsString()},
											 {kWatermark, watermark.SerializeAsString()}};

	for (const auto &[kind, body] : bodies)
	{
		for (uint8_t flags : {0, 16})
		{
			FuzzSeed seed;

			add_message(&seed.byte(kMessage).byte(kind), flags, "", body);
			seed.write(corpus, "message-" + std::to_string(kind) + "-" + std::to_string(flags));
		}
	}

	FuzzSeed parts;
	FuzzSeed moved;

	add_message(&parts.byte(kMessage).byte(kPackage), 16, "1/2", package.substr(0, 200));
	add_message(&parts.byte(kMessage).byte(kPackage), 16, "2/2", package.substr(200));
	parts.write(corpus, "parts");
	moved.byte(kMove).number(0x3006AB9).number(4).byte(3);
	add_message(&moved, 16, "1/2", package.substr(0, 200));
	add_message(&moved, 16, "2/2", package.substr(200));
	add_message(&moved, 17, "", package);
	moved.byte(0).byte(0).byte(0).write(corpus, "move");

	std::string cursors;

	append_cursor(&cursors, "decoder", {0x1234567890abcdef, 4096, 1, 3});
	append_cursor(&cursors, "moved-16384", {1, 77, 2, 2});
	FuzzSeed().byte(kCursors).text(cursors).write(corpus, "cursors");
	FuzzSeed().byte(kId).text(MessageId{0x1234567890abcdef, 4096, 2}.format()).write(corpus, "id");

	TableState state;

	state.schema = "public";
	state.table = "t";
	state.oid = 16384;
	state.generation = 1767323045;
	state.since = 0x3006A00;
	state.shared = true;
	state.phase = HandOffPhase::Streaming;
	state.behind = 12;
	state.rows_behind = 34;
	state.snapshot = {0x3006AB8, 700, 705, {700, 703}};

	FuzzSeed().byte(kState).text(state.to_json()).write(corpus, "state");
	state.phase = HandOffPhase::Snapshot;
	FuzzSeed().byte(kState).text(state.to_json()).write(corpus, "state-2");
	FuzzSeed().byte(kParts).byte(1).byte(99).text(package).write(corpus, "cut");

	FuzzSeed event;

	event.byte(kEvent).text("t").byte(3).text("id").byte(1).text("a").byte(0).text("b").byte(0);
	event.byte(1).byte(2).number(0x3006AB8).byte(1).number(1767323045000006);
	event.byte(3).byte(2).number(42).byte(7).text("text").byte(13).number(1767323045000006);
	event.byte(1).byte(2).number(41).write(corpus, "event");
}

} // namespace

extern "C" int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	std::string corpus = fuzz_corpus(*argc, *argv);

#if GOOGLE_PROTOBUF_VERSION < 3022000
	/* It says of each string that it is no UTF-8. */
	google::protobuf::SetLogHandler(nullptr);
#endif
	if (!corpus.empty())
		write_seeds(corpus);
	return 0;
}

extern "C" int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput input(data, size);
	PackageAssembler assembler;

	while (input.more())
	{
		switch (input.byte() % kTargets)
		{
			case kMessage:
				take_message(&input, &assembler);
				break;
			case kMove:
				move(&input);
				break;
			case kCursors:
				read_cursors(input.text());
				break;
			case kId:
				read_id(input.text());
				break;
			case kState:
				read_state(input.text());
				break;
			case kEvent:
				print_event(&input);
				break;
			case kParts:
				cut(&input);
				break;
		}
	}
	return 0;
}
