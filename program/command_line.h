/*
 * The options of one program: each is declared once, with a function that takes its text, and comes from a flag, from
 * its environment variable, or from the YAML file, in this order. A secret is an option without a flag, as everybody
 * on the machine can read the arguments of a process; nothing here repeats one in a message.
 */
#ifndef SIPHON_COMMAND_LINE_H
#define SIPHON_COMMAND_LINE_H

#include <functional>
#include <map>
#include <string>

#include <CLI/CLI.hpp>

namespace siphon {

class CommandLine
{
public:
	/* Throws std::invalid_argument for what can't be taken. */
	using Take = std::function<void(const std::string &)>;

	/* `versions`: for --version, behind the program's own. */
	CommandLine(const char *program, const std::string &versions, const std::string &description);

	/* Of the options that follow, in --help. */
	void group(const char *name) { group_ = name; }
	void footer(const std::string &text);
	CLI::Option *option(const std::string &name, const char *type, const char *shown_default,
						const std::string &description, Take take);
	void flag(const std::string &name, const std::string &description, bool *value);
	void secret(const std::string &name, Take take);
	/*
	 * The value of this option is a list of URLs, which may have a user and a password in front of an "@": such a one is
	 * refused as an argument, and print() shows what `without_login` makes of it.
	 */
	void hide_login(const std::string &name, std::function<std::string(const std::string &)> without_login);

	/* False: --help or --version was asked for and has been printed. */
	bool parse(int argc, const char *const *argv);
	/* Takes the options that are still unset from a YAML file. True: a secret was among them. */
	bool apply_file(const std::string &path);
	/* Prints all options but secrets, as a file for --config. Those that are not set and have no default are comments.
	 */
	void print() const;

private:
	struct Secret
	{
		Take take;
		bool set = false;
	};

	CLI::Option *finish(CLI::Option *option, const std::string &name);
	CLI::Option *find(std::string key);
	void refuse_secrets(int argc, const char *const *argv) const;
	void take_secret(const std::string &name, const std::string &text);
	std::string version() const;

	const char *program_;
	const std::string versions_;
	CLI::App app_;
	std::string group_;
	std::map<std::string, Secret> secrets_;                                         /* by name, with dashes */
	std::map<std::string, std::function<std::string(const std::string &)>> logins_; /* likewise */
};

/* Takes the text as it is. */
inline CommandLine::Take
take_text(std::string *value)
{
	return [=](const std::string &text) { *value = text; };
}

} // namespace siphon

#endif
