/*
 * The siphon.v1.TableSchema of a table, for consumers that make one like it.
 */
#ifndef SIPHON_TABLE_SCHEMA_H
#define SIPHON_TABLE_SCHEMA_H

#include "table.h"

/* One column on its way into packages and the schema; `wire`: a siphon.v1.Column. */
struct ColumnDraft
{
	Form_pg_attribute attribute;
	siphon::WireBuffer wire;
};

/* The siphon.v1.TableSchema of a table that is built, from its columns, in the current memory context. */
extern siphon::WireBuffer table_schema(const Table *table, Relation relation, const char *application,
									   const ColumnDraft *columns);

#endif
