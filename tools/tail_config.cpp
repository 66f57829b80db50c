/* See tail_config.h. */
#include "tools/tail_config.h"

#include <stdexcept>

#include "program/command_line.h"
#include "program/option_values.h"
#include "reader/versions.h"

namespace siphon {

std::optional<TailConfig>
read_tail_config(int argc, const char *const *argv)
{
	TailConfig config;
	CommandLine line("siphon-tail", library_versions(),
					 "Prints the events of one Siphon application as JSON, one line each, as they arrive in\n"
					 "NATS JetStream. For people and for tests.");

	line.group("What to read, and where");
	line.option("table", "SCHEMA.TABLE", "", "This table alone; the first dot ends the schema's name",
				[&](const std::string &text) {
					size_t dot = text.find('.');

					if (dot == std::string::npos || dot == 0 || dot + 1 == text.size())
						throw std::invalid_argument("\"" + text + "\" is not of the form schema.table");
					config.table = text;
				});
	line.flag("watermarks", "Print watermarks too", &config.watermarks);
	line.flag("messages", "Print logical messages too", &config.messages);
	line.flag("columns", "Print a table's columns too, where they change", &config.columns);
	add_stream_options(&line, "Read the stream from files in this directory, without NATS", &config);

	line.group("From when, and until when");
	line.flag("from-start", "Begin with the first message of the stream, not with the next one", &config.from_start);
	line.flag("stop-at-end", "Print what the stream holds now, then exit; implies --from-start", &config.stop_at_end);
	line.option("count", "N", "", "Exit after this many lines", [&](const std::string &text) {
		config.count = static_cast<uint64_t>(parse_integer(text, 1, INT64_MAX));
	});

	line.footer("A flag overrides its environment variable (Env).\n"
				"\n"
				"Examples:\n"
				"  siphon-tail --table public.issues\n"
				"  siphon-tail --from-start --count 10\n"
				"  siphon-tail --stop-at-end | jq -c 'select(.operation == \"DELETE\").old'\n"
				"\n"
				"Exit codes:\n"
				"  0  the end, the count, or SIGINT, SIGTERM, or whoever reads the output has gone\n"
				"  1  no connection, or it was lost for good\n"
				"  2  wrong option or credentials\n"
				"  4  there is no such stream, or it holds what is not Siphon's\n");

	if (!line.parse(argc, argv))
		return std::nullopt;
	if (config.stop_at_end)
		config.from_start = true;
	check_stream_options(config);
	return config;
}

} // namespace siphon
