/*
 * What siphon-publisher check has found, a line each: what is well, what is worth a thought, and what is wrong, with
 * what mends it on the next line.
 */
#ifndef SIPHON_CHECK_FINDINGS_H
#define SIPHON_CHECK_FINDINGS_H

#include <cstdio>
#include <string>

namespace siphon {

class Findings
{
public:
	void well(const std::string &what) { printf("ok     %s\n", what.c_str()); }
	void note(const std::string &what) { printf("note   %s\n", what.c_str()); }
	void wrong(const std::string &what, const std::string &hint)
	{
		printf("wrong  %s\n       %s\n", what.c_str(), hint.c_str());
		all_well_ = false;
	}
	bool all_well() const { return all_well_; }

private:
	bool all_well_ = true;
};

} // namespace siphon

#endif
