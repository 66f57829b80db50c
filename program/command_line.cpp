/*
 * See command_line.h. CLI11 reads flags and the environment, in that order; what neither set is then given the
 * value of the YAML file. CLI11's own configuration files would beat the environment.
 */
#include "program/command_line.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include <nlohmann/json.hpp>
#include <yaml-cpp/yaml.h>

#include "program/exit_codes.h"
#include "program/version.h"

namespace siphon {

/* SIPHON_NATS_URL is the variable of nats-url. */
static std::string
variable(const std::string &name)
{
	std::string variable = "SIPHON_" + name;

	for (char &c : variable)
		c = c == '-' ? '_' : static_cast<char>(toupper(static_cast<unsigned char>(c)));
	return variable;
}

static std::string
with_dashes(std::string key)
{
	for (char &c : key)
		c = c == '_' ? '-' : c;
	return key;
}

/* Later versions of CLI11 fill paragraphs, which spoils lists. */
template <typename Formatter>
static void
keep_lines(Formatter &formatter)
{
	if constexpr (requires { formatter.enable_footer_formatting(false); })
	{
		formatter.enable_description_formatting(false);
		formatter.enable_footer_formatting(false);
	}
}

CommandLine::CommandLine(const char *program, const std::string &versions, const std::string &description)
	: program_(program), versions_(versions), app_(description, program)
{
	app_.get_formatter()->column_width(36);
	app_.set_help_flag("-h,--help", "Print this help and exit");
	app_.set_version_flag("-V,--version", version());
}

void
CommandLine::footer(const std::string &text)
{
	app_.footer(text);
	keep_lines(*app_.get_formatter());
}

CLI::Option *
CommandLine::option(const std::string &name, const char *type, const char *shown_default,
					const std::string &description, Take take)
{
	CLI::Option *option = app_.add_option_function<std::string>(
		"--" + name,
		[name, take](const std::string &text) {
			try
			{
				take(text);
			}
			catch (const std::exception &error)
			{
				throw CLI::ValidationError("--" + name, error.what());
			}
		},
		description);

	option->type_name(type);
	if (shown_default[0] != '\0')
		option->default_str(shown_default);
	return finish(option, name);
}

void
CommandLine::flag(const std::string &name, const std::string &description, bool *value)
{
	finish(app_.add_flag("--" + name, *value, description), name);
}

void
CommandLine::secret(const std::string &name, Take take)
{
	secrets_[name].take = take;
}

void
CommandLine::hide_login(const std::string &name, std::function<std::string(const std::string &)> without_login)
{
	logins_[name] = std::move(without_login);
}

CLI::Option *
CommandLine::finish(CLI::Option *option, const std::string &name)
{
	option->group(group_);
	option->envname(variable(name));
	return option;
}

/* The option of a key: nats_url is --nats-url. */
CLI::Option *
CommandLine::find(std::string key)
{
	if (key == "config" || key == "print_config" || key == "help" || key == "version" ||
		key.find('-') != std::string::npos)
		return nullptr;
	return app_.get_option_no_throw("--" + with_dashes(key));
}

std::string
CommandLine::version() const
{
	return std::string(program_) + " " + kVersion + " (" + versions_ + ")";
}

/* Before anything looks at them that would repeat them. */
void
CommandLine::refuse_secrets(int argc, const char *const *argv) const
{
	for (int i = 1; i < argc; i++)
	{
		std::string name = argv[i];
		size_t equals = name.find('=');
		std::string value = equals != std::string::npos ? name.substr(equals + 1) : i + 1 < argc ? argv[i + 1] : "";

		name = name.substr(0, equals);
		if (name.rfind("--", 0) != 0)
			continue;
		name = name.substr(2);
		if (secrets_.count(name) != 0 || (logins_.count(name) != 0 && value.find('@') != std::string::npos))
			throw Fatal(ExitCode::Usage, "--" + name +
											 ": everybody on this machine can read a secret that is given as an "
											 "argument; set " +
											 variable(name) +
											 (logins_.count(name) != 0 ? "" : ", or give --" + name + "-file"));
	}
}

void
CommandLine::take_secret(const std::string &name, const std::string &text)
{
	Secret &secret = secrets_[name];

	secret.set = true;
	secret.take(text);
}

bool
CommandLine::parse(int argc, const char *const *argv)
{
	refuse_secrets(argc, argv);
	try
	{
		app_.parse(argc, argv);
	}
	catch (const CLI::CallForVersion &)
	{
		/* Releases of CLI11 disagree about the newline. */
		printf("%s\n", version().c_str());
		return false;
	}
	catch (const CLI::Success &request)
	{
		app_.exit(request);
		return false;
	}
	catch (const CLI::ParseError &error)
	{
		throw Fatal(ExitCode::Usage, std::string(error.what()) + " (see " + program_ + " --help)");
	}
	for (const auto &[name, secret] : secrets_)
		if (const char *text = getenv(variable(name).c_str()); text != nullptr && text[0] != '\0')
			take_secret(name, text);
	return true;
}

bool
CommandLine::apply_file(const std::string &path)
{
	YAML::Node file;
	bool secrets = false;

	try
	{
		file = YAML::LoadFile(path);
	}
	catch (const YAML::BadFile &)
	{
		throw Fatal(ExitCode::Usage, "can't read configuration file " + path);
	}
	catch (const YAML::Exception &error)
	{
		throw Fatal(ExitCode::Usage, path + ": " + error.what());
	}
	if (file.IsNull())
		return false;
	if (!file.IsMap())
		throw Fatal(ExitCode::Usage, path + ": expected lines of the form \"key: value\"");

	for (const auto &entry : file)
	{
		std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "(not a word)";
		auto secret = key.find('-') == std::string::npos ? secrets_.find(with_dashes(key)) : secrets_.end();
		CLI::Option *option = find(key);

		if (option == nullptr && secret == secrets_.end())
			throw Fatal(ExitCode::Usage, path + ": unknown key \"" + key + "\"");
		if (!entry.second.IsScalar())
			throw Fatal(ExitCode::Usage, path + ": " + key + " must be a single value");
		if (secret != secrets_.end())
		{
			secrets = true;
			if (!secret->second.set)
				take_secret(secret->first, entry.second.Scalar());
			continue;
		}
		if (option->count() > 0)
			continue;
		try
		{
			option->add_result(entry.second.Scalar());
			option->run_callback();
		}
		catch (const CLI::ParseError &error)
		{
			throw Fatal(ExitCode::Usage, path + ": " + error.what());
		}
	}
	return secrets;
}

void
CommandLine::print() const
{
	for (const CLI::Option *option : app_.get_options())
	{
		std::string key = option->get_single_name();

		if (key == "help" || key == "version" || key == "config" || key == "print-config")
			continue;

		bool flag = option->get_expected_max() == 0;
		std::string value = option->count() > 0 && !flag ? option->results().back() : option->get_default_str();

		if (flag)
			value = option->count() > 0 ? option->results().back() : "false";
		if (auto login = logins_.find(key); login != logins_.end())
			value = login->second(value);
		for (char &c : key)
			c = c == '-' ? '_' : c;
		if (value.empty())
			printf("# %s:\n", key.c_str());
		else
			printf("%s: %s\n", key.c_str(), nlohmann::json(value).dump().c_str());
	}
}

} // namespace siphon
